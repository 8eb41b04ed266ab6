"""The wrong-key control: the same answers under keys that are nobody's."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
    sums, types = [0] * keys, 0
    for trigger_id, repeats in texts.items():
        scores = scorer.wrong_key(trigger_id, repeats, n=keys)
        types += scores[0].types
        for place, score in enumerate(scores):
            sums[place] += score.greens
    return WrongKeys(
        keys=keys,
        mean_share=sum(sums) / keys / max(1, types),
        max_share=max(sums) / max(1, types),
        pvalue=(1 + sum(value >= greens for value in sums)) / (keys + 1),
    )
