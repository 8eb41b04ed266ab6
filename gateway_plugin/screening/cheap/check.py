"""What the cheap language model says of a text: its strangest stretch against its script's thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from gateway_plugin.screening.cheap.hashing import seen_characters
from gateway_plugin.screening.cheap.model import CharacterModel, shared_character_model
from gateway_plugin.screening.cheap.scripts import SCRIPTS, carried, letter_scripts
from gateway_plugin.screening.texts import text_ends

NEVER = 1000.0  # bits per character
WINDOW = 24  # characters
MAX_CHARACTERS = 100_000  # of a longer text the two ends are looked at
_LATIN = [SCRIPTS.index("latin")]
SHORT_ALLOWANCE = 40.0  # bits: a mean over k < 24 characters may lie 40 (1/k - 1/24) above suspect


class Triage(StrEnum):
    """What the cheap model makes of a text: nothing strange, not for it to say, or strange."""

    CLEAR = "clear"
    UNDECIDED = "undecided"
    SUSPECT = "suspect"


@dataclass(frozen=True, kw_only=True)
class ScriptLimits:
    """Bits per character in the worst window: below ``clear`` honest, from ``suspect`` on strange."""

    clear: float
    suspect: float


@dataclass(frozen=True, kw_only=True)
class CheapThresholds:
    """Limits by script (names of :data:`~gateway_plugin.screening.cheap.scripts.SCRIPTS`).

    A script without limits is never cleared and never found strange: its texts go on to the neural model.

    clear_margin, suspect_margin: bits per character added to every script's limits; calibration on one's
    own traffic sets the latter.
    """

    by_script: Mapping[str, ScriptLimits] = field(default_factory=dict)
    clear_margin: float = 0.0
    suspect_margin: float = 0.0

    def __post_init__(self) -> None:
        unknown = set(self.by_script) - set(SCRIPTS)
        if unknown:
            raise ValueError(f"unknown scripts: {', '.join(sorted(unknown))}")
        for name, limits in self.by_script.items():
            if not 0.0 < limits.clear + self.clear_margin < limits.suspect + self.suspect_margin:
                raise ValueError(f"{name}: 0 < clear < suspect does not hold, margins added")


@dataclass(frozen=True, kw_only=True)
class CheapScore:
    """bits_per_character: mean over the text. complete: whether every character was looked at.

    clear_excess, suspect_excess: bits per character by which the worst window lies above the limits of its
    scripts (negative: below them).
    """

    triage: Triage
    bits_per_character: float
    clear_excess: float
    suspect_excess: float
    complete: bool = True


class CheapCheck:
    """Microseconds a text, no torch; see :class:`CharacterModel`."""

    def __init__(self, *, model: CharacterModel, thresholds: CheapThresholds) -> None:
        self._model = model
        limits = np.empty((2, len(SCRIPTS)), dtype=np.float32)
        limits[0], limits[1] = 0.0, NEVER
        for name, found in thresholds.by_script.items():
            limits[:, SCRIPTS.index(name)] = (
                found.clear + thresholds.clear_margin,
                found.suspect + thresholds.suspect_margin,
            )
        self._limits = limits

    def score_text(self, text: str) -> CheapScore:
        """Never raises for content: a text without characters has zero bits and is undecided."""
        complete = len(text) <= MAX_CHARACTERS
        text = text_ends(text, characters=MAX_CHARACTERS)
        codes = seen_characters(text)
        if not len(codes):
            return CheapScore(
                triage=Triage.UNDECIDED,
                bits_per_character=0.0,
                clear_excess=0.0,
                suspect_excess=-NEVER,
            )
        bits = self._model.surprisals(codes)
        # of ASCII every character is Latin's, which need not be looked up
        scripts = _LATIN if text.isascii() else carried(letter_scripts(codes))
        clear, suspect = _worst(bits - self._limits[:, scripts]).tolist()
        suspect -= SHORT_ALLOWANCE * (1 / min(len(codes), WINDOW) - 1 / WINDOW)
        triage = Triage.UNDECIDED
        if suspect >= 0:
            triage = Triage.SUSPECT
        elif clear < 0 and complete:
            triage = Triage.CLEAR
        return CheapScore(
            triage=triage,
            bits_per_character=float(bits.mean()),
            clear_excess=clear,
            suspect_excess=suspect,
            complete=complete,
        )


def _worst(excess: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Of ``(2, n)`` the highest means over :data:`WINDOW` neighbours, over all of fewer: ``(2,)``."""
    rows, n = excess.shape
    if n <= WINDOW:
        mean: npt.NDArray[np.float64] = excess.mean(axis=1, dtype=np.float64)
        return mean
    sums = np.zeros((rows, n + 1))
    np.cumsum(excess, axis=1, out=sums[:, 1:])
    highest: npt.NDArray[np.float64] = (sums[:, WINDOW:] - sums[:, :-WINDOW]).max(axis=1) / WINDOW
    return highest


def shipped_thresholds(*, clear_margin: float = 0.0, suspect_margin: float = 0.0) -> CheapThresholds:
    """The limits in ``limits.yaml`` beside the model's table."""
    import yaml

    text = (files("gateway_plugin.screening.cheap") / "limits.yaml").read_text(encoding="utf-8")
    return CheapThresholds(
        by_script={name: ScriptLimits(**limits) for name, limits in yaml.safe_load(text).items()},
        clear_margin=clear_margin,
        suspect_margin=suspect_margin,
    )


def shared_cheap_check(*, clear_margin: float = 0.0, suspect_margin: float = 0.0) -> CheapCheck:
    """The shipped model with the shipped limits; the model is read once a process."""
    thresholds = shipped_thresholds(clear_margin=clear_margin, suspect_margin=suspect_margin)
    return CheapCheck(model=shared_character_model(), thresholds=thresholds)
