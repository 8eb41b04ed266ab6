"""Characters of several writing systems stirred together, as in Instruction-Fingerprint triggers.

Such gibberish is cheap for a byte-level language model, so its perplexity says little. Honest text
changes script between words, or where Japanese does (kanji with kana); it does not alternate between
Latin, Cyrillic, Han and katakana letter by letter. Only adjacent letters are looked at, so words of
different scripts with a space, a digit or a mark between them never count.
"""

import unicodedata
from collections import deque
from functools import lru_cache
from itertools import pairwise

from gateway_plugin.screening.base import Finding, Phase, Query, Status, worst

WINDOW = 32  # characters
MAX_CHARACTERS = 200_000  # of a longer text the two ends are looked at: 90 ms at most

# Japanese writes these side by side within one word or phrase.
_NATURAL = frozenset(
    {frozenset({"CJK", "HIRAGANA"}), frozenset({"HIRAGANA", "KATAKANA"}), frozenset({"HANGUL", "CJK"})}
)


@lru_cache(maxsize=65536)
def script_of(char: str) -> str | None:
    """The script of a letter by its Unicode name ("LATIN", "CJK", ...), ``None`` for what is no letter."""
    if not char.isalpha():
        return None
    first = unicodedata.name(char, "").partition(" ")[0]
    if first.startswith("KATAKANA-HIRAGANA"):  # the prolonged sound mark belongs to both
        return None
    return "LATIN" if first in {"FULLWIDTH", "FEMININE", "MASCULINE", "MODIFIER"} else first or None


def densest_mixing(text: str) -> int:
    """The most unnatural script changes between neighbours in any window of :data:`WINDOW` characters."""
    recent: deque[int] = deque()
    densest = 0
    for position, (left, right) in enumerate(pairwise(text)):
        if left.isascii() and right.isascii():
            continue
        before, after = script_of(left), script_of(right)
        if before and after and before != after and frozenset({before, after}) not in _NATURAL:
            recent.append(position)
            while recent[0] <= position - WINDOW:
                recent.popleft()
            densest = max(densest, len(recent))
    return densest


class ScriptMixingCheck:
    """Counts unnatural script changes; microseconds a prompt, no model."""

    name = "script_mixing"
    phase = Phase.REQUEST

    def __init__(self, *, suspect_changes: int = 11, hit_changes: int = 13) -> None:
        """``suspect_changes`` and ``hit_changes``: changes within one window from which each status holds."""
        self._suspect, self._hit = suspect_changes, hit_changes

    def score(self, query: Query, response: str | None = None, reference: str | None = None) -> Finding:
        return worst([self._one(text) for text in query.texts], check=self.name)

    def _one(self, text: str) -> Finding:
        if len(text) > MAX_CHARACTERS:
            text = text[: MAX_CHARACTERS // 2] + text[-MAX_CHARACTERS // 2 :]
        changes = densest_mixing(text)
        status = (
            Status.HIT
            if changes >= self._hit
            else Status.SUSPECT
            if changes >= self._suspect
            else Status.CLEAR
        )
        return Finding(
            check=self.name,
            status=status,
            measures={"script_changes": float(changes)},
            reason=f"{changes} script changes within {WINDOW} characters" if changes >= self._suspect else "",
        )
