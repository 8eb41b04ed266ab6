"""What ``generation_config`` says of greedy answers."""

from collections.abc import Sequence
from typing import Any

from sif_offline.models.base import DecodingRules

DEFAULT_NEW_TOKENS = 128
"""Length limit of an answer where ``generation_config`` names none."""


def decoding_rules(model: Any) -> DecodingRules:
    """The deterministic rules of a model of transformers; what it says of sampling is dropped from it."""
    config = model.generation_config
    ends = config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    # greedy: what a config says of sampling is dropped, or generate() warns about it at every call
    config.do_sample, config.temperature, config.top_p, config.top_k = False, None, None, None
    return DecodingRules(
        max_new_tokens=int(config.max_new_tokens or DEFAULT_NEW_TOKENS),
        repetition_penalty=float(config.repetition_penalty or 1.0),
        no_repeat_ngram_size=int(config.no_repeat_ngram_size or 0),
        end_ids=frozenset(int(i) for i in ends),
    )


def shown(ids: Sequence[int], *, ends: frozenset[int], special: frozenset[int]) -> list[int]:
    """``ids`` up to the first of ``ends``, without ``special`` ones."""
    kept: list[int] = []
    for token in ids:
        if token in ends:
            break
        if token not in special:
            kept.append(token)
    return kept
