"""Characters of several writing systems stirred together, as in Instruction-Fingerprint triggers.

Such gibberish is cheap for a byte-level language model, so its perplexity says little. Honest text changes
script between words, or where Japanese does (kanji with kana); it does not alternate between Latin, Cyrillic,
Han and katakana letter by letter. Two counts, of which the higher is taken:

- changes between *adjacent* letters; words of different scripts with a space or a mark between them never
  count;
- where three or more scripts stand within 32 letters, changes between letters whatever stands between them,
  so that gibberish with a space after every letter is seen too. Here Han, kana and hangul are one script.

A single Greek letter is taken for a mark: honest formulas set it among Latin and Han letters.
"""

import numpy as np
import numpy.typing as npt

from gateway_plugin.screening.base import Finding, Phase, Query, Status, worst
from gateway_plugin.screening.cheap.scripts import COMMON, SCRIPTS, letter_scripts
from gateway_plugin.screening.texts import text_ends

WINDOW = 32  # characters, or letters
MAX_CHARACTERS = 200_000  # of a longer text the two ends are looked at
LEAST_SCRIPTS = 3
SUSPECT_CHANGES, HIT_CHANGES = 11, 13

_EAST_ASIAN = ("han", "hiragana", "katakana", "hangul")


def _natural() -> npt.NDArray[np.bool_]:
    """``(scripts, scripts)``: whether two stand side by side within one word or phrase of an honest text."""
    table = np.eye(len(SCRIPTS), dtype=bool)
    table[COMMON, :] = table[:, COMMON] = True
    for one, other in (("han", "hiragana"), ("hiragana", "katakana"), ("hangul", "han")):
        left, right = SCRIPTS.index(one), SCRIPTS.index(other)
        table[left, right] = table[right, left] = True
    return table


_NATURAL = _natural()
_FAMILY = np.array([SCRIPTS.index("han") if name in _EAST_ASIAN else i for i, name in enumerate(SCRIPTS)])


def densest_mixing(text: str) -> int:
    """The most unnatural script changes in any window of :data:`WINDOW` characters or letters."""
    if text.isascii():
        return 0
    scripts = letter_scripts(np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32))
    return max(_densest(~_NATURAL[scripts[:-1], scripts[1:]]), _stirred(_FAMILY[scripts[scripts != COMMON]]))


def _stirred(families: npt.NDArray[np.int_]) -> int:
    """The most changes within 32 letters among which are at least three scripts."""
    present = np.unique(families)
    if len(present) < LEAST_SCRIPTS:
        return 0
    several = sum((_in_window(families == family) > 0).astype(int) for family in present) >= LEAST_SCRIPTS
    changes = np.concatenate([[False], families[1:] != families[:-1]])
    return int(np.max(_in_window(changes) * several, initial=0))


def _in_window(happens: npt.NDArray[np.bool_]) -> npt.NDArray[np.int_]:
    """``(n,)``: how often it happens in the window that ends at each place."""
    sums = np.concatenate([[0], np.cumsum(happens)])
    return np.asarray(sums[1:] - sums[np.maximum(np.arange(1, len(sums)) - WINDOW, 0)])


def _densest(happens: npt.NDArray[np.bool_]) -> int:
    return int(np.max(_in_window(happens), initial=0))


class ScriptMixingCheck:
    """Counts unnatural script changes; microseconds a prompt, no model."""

    name = "script_mixing"
    phase = Phase.REQUEST

    def __init__(self, *, suspect_changes: int = SUSPECT_CHANGES, hit_changes: int = HIT_CHANGES) -> None:
        """``suspect_changes`` and ``hit_changes``: changes within one window from which each status holds."""
        self._suspect, self._hit = suspect_changes, hit_changes

    def score(self, query: Query, response: str | None = None, reference: str | None = None) -> Finding:
        return worst([self._one(text) for text in query.texts], check=self.name)

    def _one(self, text: str) -> Finding:
        changes = densest_mixing(text_ends(text, characters=MAX_CHARACTERS))
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
