"""What the cheap language model says of a text: its strangest stretch against its script's thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from gateway_plugin.screening.cheap.hashing import seen_characters
from gateway_plugin.screening.cheap.model import CharacterModel
from gateway_plugin.screening.cheap.scripts import SCRIPTS, carried, script_ids

WINDOW = 24  # characters
MAX_CHARACTERS = 100_000  # of a longer text the two ends are looked at


class Verdict(StrEnum):
    """What the cheap model makes of a text: nothing strange, clearly no language, or not for it to say."""

    CLEAR = "clear"
    UNDECIDED = "undecided"
    HIT = "hit"


@dataclass(frozen=True, kw_only=True)
class ScriptLimits:
    """Bits per character in the worst window: below ``clear`` honest, from ``hit`` on no language."""

    clear: float
    hit: float


@dataclass(frozen=True, kw_only=True)
class CheapThresholds:
    """Limits by script (names of :data:`~gateway_plugin.screening.cheap.scripts.SCRIPTS`).

    A script without limits is never cleared and never hit: its texts go on to the neural model.
    """

    by_script: Mapping[str, ScriptLimits] = field(default_factory=dict)
    short_allowance: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CheapScore:
    """bits_per_character: mean over the text. complete: whether every character was looked at.

    clear_excess, hit_excess: bits per character by which the worst window lies above the limit (negative:
    below it).
    """

    verdict: Verdict
    bits_per_character: float
    clear_excess: float
    hit_excess: float
    complete: bool = True


class CheapCheck:
    """Microseconds a text, no torch; see :class:`CharacterModel`."""

    def __init__(self, *, model: CharacterModel, thresholds: CheapThresholds) -> None:
        self._model = model
        unknown = set(thresholds.by_script) - set(SCRIPTS)
        if unknown:
            raise ValueError(f"unknown scripts: {', '.join(sorted(unknown))}")
        nowhere = ScriptLimits(clear=0.0, hit=64.0)
        limits = [thresholds.by_script.get(name, nowhere) for name in SCRIPTS]
        self._clear = np.array([limit.clear for limit in limits], dtype=np.float32)
        self._hit = np.array([limit.hit for limit in limits], dtype=np.float32)

    def score_text(self, text: str) -> CheapScore:
        """Never raises for content: a text without characters has zero bits and is undecided."""
        complete = len(text) <= MAX_CHARACTERS
        if not complete:
            text = text[: MAX_CHARACTERS // 2] + text[-MAX_CHARACTERS // 2 :]
        codes = seen_characters(text)
        if not len(codes):
            return CheapScore(
                verdict=Verdict.UNDECIDED, bits_per_character=0.0, clear_excess=0.0, hit_excess=0.0
            )
        bits = self._model.surprisals(codes)
        scripts = carried(script_ids(codes))
        clear = _worst(bits - self._clear[scripts])
        hit = _worst(bits - self._hit[scripts])
        verdict = Verdict.HIT if hit >= 0 else Verdict.CLEAR if clear < 0 and complete else Verdict.UNDECIDED
        return CheapScore(
            verdict=verdict,
            bits_per_character=float(bits.mean()),
            clear_excess=clear,
            hit_excess=hit,
            complete=complete,
        )


def _worst(excess: npt.NDArray[np.float32]) -> float:
    """The highest mean over :data:`WINDOW` neighbours; over all of fewer."""
    if len(excess) <= WINDOW:
        return float(excess.mean())
    sums = np.concatenate([[0.0], np.cumsum(excess, dtype=np.float64)])
    return float((sums[WINDOW:] - sums[:-WINDOW]).max() / WINDOW)
