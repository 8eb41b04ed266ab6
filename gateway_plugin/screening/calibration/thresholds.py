"""Settings for all measures together, at one false-positive rate.

Several measures share the rate: a_1 + ... + a_m = a, so that by the union bound the chance that any of them
flags an honest exchange is at most a.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway_plugin.screening.calibration.conformal import CalibrationError, conformal_threshold, rate_95
from gateway_plugin.screening.calibration.measures import MEASURES, Measure, Row


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """One calibrated setting.

    value: at or beyond it the check finds something. rate: this measure's share of the false-positive rate.
    rate_95: the rate that holds for 95 % of calibration sets of this size. scores: the benign scores as the
    measure has them, finite ones only; of ``n``.
    """

    measure: Measure
    value: float
    rate: float
    rate_95: float
    n: int
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """thresholds for ``rate`` in all. not_measured: exchanges without a score (failed or unscorable)."""

    rate: float
    thresholds: tuple[Threshold, ...]
    not_measured: int = 0

    def settings(self) -> dict[str, dict[str, float | int]]:
        """Check to setting to value, as under ``checks:``."""
        found: dict[str, dict[str, float | int]] = {}
        for each in self.thresholds:
            value = int(each.value) if each.measure.whole else each.value
            place = found.setdefault(each.measure.check, {})
            place[each.measure.setting] = value
            if each.measure.hit:
                name, default = each.measure.hit
                if (value < default) if each.measure.low_is_strange else (value > default):
                    place[name] = value
        return found

    def yaml(self) -> str:
        """A snippet to paste into the guardrail's settings."""
        import yaml

        n = max(each.n for each in self.thresholds)
        head = f"# at most {self.rate:.3%} of honest exchanges flagged (split conformal, n = {n})\n"
        return head + yaml.safe_dump({"checks": self.settings()}, sort_keys=False)


def calibrate(
    rows: Iterable[Row],
    *,
    rate: float = 0.01,
    measures: Sequence[Measure] = MEASURES,
    shares: Mapping[str, float] | None = None,
    not_measured: int = 0,
) -> Calibration:
    """Thresholds for every measure that the rows have, at ``rate`` in all.

    shares: weights by setting's name for the split of the rate (missing ones: 1); equal without. A measure
    that no row has gets no threshold and no share. Raises :class:`CalibrationError` when there is none, when
    ``rate`` is not within (0, 1), or when a measure has too few scores for its share.
    """
    if not 0 < rate < 1:
        raise CalibrationError(f"the false-positive rate must lie between 0 and 1, not {rate}")
    kept = list(rows)
    columns = {
        measure: [score for row in kept if (score := measure.score(row)) is not None] for measure in measures
    }
    columns = {measure: scores for measure, scores in columns.items() if any(map(math.isfinite, scores))}
    if not columns:
        raise CalibrationError("no benign exchange has a measure that sets a threshold")
    weights = {measure: (shares or {}).get(measure.setting, 1.0) for measure in columns}
    thresholds = []
    for measure, scores in columns.items():
        share = rate * weights[measure] / sum(weights.values())
        try:
            edge = conformal_threshold(scores, rate=share)
        except CalibrationError as error:
            raise CalibrationError(f"{measure.check}.{measure.setting}: {error}") from None
        if not math.isfinite(edge):  # so few were looked at that any finite threshold keeps the rate
            edge = max(scores)
        sign = -1.0 if measure.low_is_strange else 1.0
        thresholds.append(
            Threshold(
                measure=measure,
                value=_beyond(edge, measure),
                rate=share,
                rate_95=rate_95(len(scores), rate=share),
                n=len(scores),
                scores=tuple(sign * score for score in scores if math.isfinite(score)),
            )
        )
    return Calibration(rate=rate, thresholds=tuple(thresholds), not_measured=not_measured)


def _beyond(edge: float, measure: Measure) -> float:
    """The setting just beyond the highest score that is to pass, rounded to five digits away from it."""
    if measure.floor is not None and edge < measure.floor:
        return measure.floor
    if measure.whole:
        return math.floor(edge) + 1
    digits = 4 - math.floor(math.log10(abs(edge))) if edge else 5
    step = 10.0**-digits
    value = round((math.floor(edge / step) + 1) * step, max(digits, 0))
    return -value if measure.low_is_strange else value
