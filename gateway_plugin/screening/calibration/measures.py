"""What calibration sets: the measures of the checks, and the settings that they are held against."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gateway_plugin.screening.divergence import DivergenceThresholds
from gateway_plugin.screening.perplexity import STRETCH_FROM, PerplexityThresholds
from gateway_plugin.screening.script_mixing import HIT_CHANGES, SUSPECT_CHANGES

Row = Mapping[str, Mapping[str, float]]  # check to its measures, for one exchange


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of a check and the setting that it is held against.

    low_is_strange: the check finds what lies *below* the setting. whole: the setting is a whole number.
    only_from: another measure and its least value, without which this one is not looked at.
    floor: the strictest value that calibration may set, whatever the traffic: a month of English traffic
        must not make the first Chinese question strange. It only lowers the false-positive rate.
    hit: the setting from which the check finds a hit, and its default; it is moved along where a calibrated
        value lies beyond it.
    """

    check: str
    name: str
    setting: str
    low_is_strange: bool = False
    whole: bool = False
    only_from: tuple[str, float] | None = None
    floor: float | None = None
    hit: tuple[str, float] | None = None

    def score(self, row: Row) -> float | None:
        """Higher is stranger; minus infinity where the check did not look, ``None`` where it did not run."""
        measures = row.get(self.check)
        if measures is None:
            return None
        value = measures.get(self.name)
        if self.only_from and measures.get(self.only_from[0], 0.0) < self.only_from[1]:
            value = None
        if value is None:
            return -math.inf
        return -value if self.low_is_strange else value


MEASURES = (
    Measure(
        check="perplexity",
        name="adjusted_window_perplexity",
        setting="suspect_window",
        hit=("hit_window", PerplexityThresholds.hit_window),
    ),
    Measure(
        check="perplexity",
        name="adjusted_stretch_perplexity",
        setting="suspect_stretch",
        only_from=("tokens", float(STRETCH_FROM)),
        hit=("hit_stretch", PerplexityThresholds.hit_stretch),
    ),
    Measure(check="perplexity", name="cheap_suspect_excess", setting="cheap_suspect_margin", floor=0.0),
    Measure(
        check="script_mixing",
        name="script_changes",
        setting="suspect_changes",
        whole=True,
        floor=SUSPECT_CHANGES,
        hit=("hit_changes", HIT_CHANGES),
    ),
    Measure(
        check="divergence",
        name="cosine",
        setting="suspect_cosine",
        low_is_strange=True,
        hit=("hit_cosine", DivergenceThresholds.hit_cosine),
    ),
)
