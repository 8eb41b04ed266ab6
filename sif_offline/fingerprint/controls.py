"""The wrong-key control: the same answers under keys that are nobody's."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sif_offline.fingerprint.pack_scorer import TextScorer


class WrongKeys(NamedTuple):
    """The control over the pooled answers of one endpoint.

    Attributes:
        keys: how many sets of keys.
        mean_share: green share of all types, mean over the sets.
        max_share: the largest over the sets.
        pvalue: (1 + sets at least as green as the true keys) / (keys + 1), the random-key null.
    """

    keys: int
    mean_share: float
    max_share: float
    pvalue: float


def wrong_key_control(
    scorer: TextScorer, texts: Mapping[str, Sequence[str]], *, greens: int, keys: int
) -> WrongKeys:
    """Score ``texts`` (trigger id -> its answers) under ``keys`` sets of public keys.

    Args:
        scorer: holds tokenizer, V and scheme.
        texts: at least one answer a trigger.
        greens: green types under the true keys, repeats of a trigger pooled.
        keys: sets of keys, at least 1.
    """
    sums, types = np.zeros(keys, dtype=np.int64), 0
    for trigger_id, repeats in texts.items():
        scored, under_keys = scorer.wrong_key(trigger_id, repeats, n=keys)
        types += scored
        sums += under_keys
    return WrongKeys(
        keys=keys,
        mean_share=int(sums.sum()) / keys / max(1, types),
        max_share=int(sums.max()) / max(1, types),
        pvalue=(1 + int(np.count_nonzero(sums >= greens))) / (keys + 1),
    )
