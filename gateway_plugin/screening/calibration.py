"""Thresholds from benign traffic at a chosen false-positive rate, by split conformal prediction.

Of n benign scores the threshold is the k-th smallest, k = ceil((n + 1)(1 - a)), and what lies above it is
flagged. If the next benign exchange is exchangeable with the n, the chance that it is flagged is at most a,
for every n and every distribution of scores (Vovk, Gammerman and Shafer 2005; Angelopoulos and Bates 2023,
appendix D). It holds on average over calibration sets: for one set the rate follows Beta(n + 1 - k, k), whose
95 % quantile is reported. With n + 1 < 1 / a no threshold has this property and none is given.

Several measures share the rate: a_1 + ... + a_m = a, so that by the union bound the chance that any of them
flags an honest exchange is at most a.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gateway_plugin.screening.base import Finding, Query, Status
from gateway_plugin.screening.divergence import DivergenceThresholds
from gateway_plugin.screening.perplexity import PerplexityThresholds
from gateway_plugin.screening.script_mixing import HIT_CHANGES, SUSPECT_CHANGES
from sif_offline.fingerprint.errors import SifError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Mapping[str, float]]  # check to its measures, for one exchange
MEASURED = frozenset({Status.CLEAR, Status.SUSPECT, Status.HIT})


class CalibrationError(SifError):
    """The benign traffic cannot give the thresholds asked for; ``str`` is one line that says why."""


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
        check="perplexity", name="adjusted_perplexity", setting="suspect_whole", only_from=("tokens", 16.0)
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


def least_n(rate: float) -> int:
    """The fewest benign scores that give a threshold at ``rate``: n + 1 >= 1 / rate."""
    return math.ceil(1 / rate - 1e-9) - 1


def conformal_threshold(scores: Sequence[float], *, rate: float) -> float:
    """The ``ceil((n + 1)(1 - rate))``-th smallest score: a new one lies above it with chance ``<= rate``.

    Raises :class:`CalibrationError` for fewer than :func:`least_n` scores.
    """
    n = len(scores)
    if n < least_n(rate):
        raise CalibrationError(
            f"{n} benign exchanges are too few for a rate of {rate:.4g}: at least {least_n(rate)}"
        )
    return float(np.sort(np.asarray(scores, dtype=np.float64))[_rank(n, rate) - 1])


def _rank(n: int, rate: float) -> int:
    return min(n, math.ceil((n + 1) * (1 - rate) - 1e-9))


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
    from scipy.stats import beta

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
        n = len(scores)
        rank = _rank(n, share)
        sign = -1.0 if measure.low_is_strange else 1.0
        thresholds.append(
            Threshold(
                measure=measure,
                value=_beyond(edge, measure),
                rate=share,
                rate_95=float(beta.ppf(0.95, n + 1 - rank, rank)),
                n=n,
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


class TextsCheck(Protocol):
    """A request check that scores several texts at once, such as the cascade."""

    def score_texts(self, texts: Sequence[str]) -> list[Finding]: ...


class QueryCheck(Protocol):
    """A request check that scores a query."""

    def score(self, query: Query) -> Finding: ...


def rows_of_texts(
    texts: Sequence[str], *, batched: Sequence[TextsCheck] = (), single: Sequence[QueryCheck] = ()
) -> tuple[list[Row], int]:
    """The measures of benign texts under the checks, and how many texts some check could not measure."""
    findings: list[list[Finding]] = [[] for _ in texts]
    for several in batched:
        for place, finding in zip(findings, several.score_texts(texts), strict=True):
            place.append(finding)
    for one in single:
        for place, text in zip(findings, texts, strict=True):
            place.append(one.score(Query(texts=(text,))))
    rows: list[Row] = [
        {finding.check: finding.measures for finding in each if finding.status in MEASURED}
        for each in findings
    ]
    return rows, sum(len(row) < len(each) for row, each in zip(rows, findings, strict=True))


def rows_of_log(lines: Iterable[str], *, name: str) -> tuple[list[Row], int]:
    """The measures in an audit log, one JSON object a line with ``findings: {check: {status, ...}}``.

    The log is taken to be benign: an attack in it raises the thresholds. Raises :class:`CalibrationError`
    naming the line. Also returns how many records some check could not measure.
    """
    rows: list[Row] = []
    missing = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            raise CalibrationError(f"{name}, line {number}: not JSON") from None
        findings = record.get("findings") if isinstance(record, dict) else None
        if not isinstance(findings, dict):
            raise CalibrationError(f'{name}, line {number}: no "findings"')
        row = {check: _numbers(found) for check, found in findings.items() if _measured(found)}
        missing += len(row) < len(findings)
        rows.append(row)
    return rows, missing


def _measured(found: Any) -> bool:
    return isinstance(found, dict) and found.get("status") in {status.value for status in MEASURED}


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a finding, whether they stand beside its status or under ``measures``."""
    nested = found.get("measures")
    both = {**found, **(nested if isinstance(nested, dict) else {})}
    return {
        key: float(value)
        for key, value in both.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def figure(calibration: Calibration) -> "Figure":
    """One histogram of benign scores a setting, with its threshold."""
    from matplotlib.figure import Figure

    thresholds = calibration.thresholds
    drawn = Figure(figsize=(7, 2.4 * len(thresholds)), layout="constrained")
    for place, each in enumerate(thresholds, start=1):
        axes = drawn.add_subplot(len(thresholds), 1, place)
        scores = np.array(each.scores)
        if scores.min(initial=math.inf) > 0 and not each.measure.whole and scores.max() > 50:
            axes.set_xscale("log")
            edges = np.geomspace(scores.min(), max(scores.max(), each.value) * 1.1, 40)
        else:
            edges = np.linspace(min(scores.min(), each.value), max(scores.max(), each.value) + 1, 40)
        axes.hist(scores, bins=edges.tolist(), color="#6a8caf")
        axes.set_yscale("symlog", linthresh=1)
        axes.axvline(each.value, color="#b03030", label=f"{each.measure.setting} = {each.value:g}")
        axes.set_xlabel(f"{each.measure.check}: {each.measure.name.replace('_', ' ')}")
        axes.set_ylabel(f"of {each.n}")
        axes.legend(loc="upper right", title=f"rate {each.rate:.2%}")
    return drawn


def plot(calibration: Calibration, path: Path) -> None:
    """Write :func:`figure` as PNG or SVG, by the file's ending. Raises :class:`CalibrationError`."""
    try:
        figure(calibration).savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: the plot cannot be written ({error})") from None
