"""Where the user's words stand in a prompt, found by asking for the prompts of other words."""

from collections.abc import Callable, Sequence
from itertools import takewhile

from sif_offline.baselines.base import BaselineError
from sif_offline.models.base import VLMAdapter

_OTHER_WORDS = ("Why?", "7 of them", "(x)", "please go on")


def question_span(adapter: VLMAdapter, question: str) -> tuple[int, int]:
    """First position of ``question`` in ``adapter.prompt_ids(question)``, and the one behind its last.

    Raises:
        BaselineError: the model's template shows none of the user's words.
    """
    return words_span(lambda words: adapter.prompt_ids(words).tolist(), question)


def words_span(ids_of: Callable[[str], Sequence[int]], words: str) -> tuple[int, int]:
    """Where prompts of other words differ from that of ``words``: (first, behind the last).

    What all of them begin and end with is the template. A token that reaches over the template's edge counts
    as the user's.

    Args:
        ids_of: the user's words to the ids of the whole prompt.
        words: at least one token.

    Raises:
        BaselineError: the prompts do not differ.
    """
    ids = list(ids_of(words))
    others = [list(ids_of(other)) for other in _OTHER_WORDS if other != words]
    start = min(_shared(ids, other) for other in others)
    behind = min(_shared(ids[::-1], other[::-1]) for other in others)
    if start >= len(ids) - behind:
        raise BaselineError(f"words {words!r}: the model's prompt does not hold them")
    return start, len(ids) - behind


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids the two begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
