"""What Prometheus scrapes: read from the store at every scrape, so that nothing is lost by a restart.

``METRICS`` is the list; docs/metrics-probes.md is made from it. Labels are bounded: names of the
configuration, the pack's id, and fixed words. Never a URL, a text or a trigger id.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, get_args

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from probes.store import Store, StoreError
from probes.store.tallies import DURATION_BOUNDS_S
from probes.store.totals import MonitorTotals, monitor_totals
from probes.targets import FAILURE_KINDS
from sif_offline.fingerprint.metav.scoring import SUSPICIOUS

logger = logging.getLogger(__name__)

Outcome = Literal["hit", "miss", "refusal", "error"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
ERROR_KINDS: tuple[str, ...] = (*FAILURE_KINDS, "crash", "stopped")
DIRECTIONS = ("prompt", "completion")
VERDICT_VALUES = {"none": 0, "suspicious": 1, "confirmed": 2}


@dataclass(frozen=True)
class MetricSpec:
    """One metric: its full name as it is exported, its type, its labels, what it says."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str

    @property
    def family(self) -> str:
        """The name that the client library wants: counters without their suffix."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name


_TARGET = ("monitor", "pack")

METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "sif_probe_watermark_zscore",
        "gauge",
        _TARGET,
        "Stouffer z of the last round with a scored answer, distinct types, against independent text",
    ),
    MetricSpec(
        "sif_probe_threshold_zscore",
        "gauge",
        _TARGET,
        "tau of that round: normal quantile at 1 - 1e-4, or the greenest null model's expected z if larger",
    ),
    MetricSpec(
        "sif_probe_log10_evalue",
        "gauge",
        _TARGET,
        "log10 of the current e-value against an unrelated model; absent while the pack is uncalibrated",
    ),
    MetricSpec(
        "sif_probe_threshold_log10_evalue",
        "gauge",
        _TARGET,
        "log10(1/alpha): the e-value at which the target is confirmed",
    ),
    MetricSpec(
        "sif_probe_metav_log_odds",
        "gauge",
        _TARGET,
        "Of MetaV packs: the verifier's log-odds (natural) that the newest answers are the owner's",
    ),
    MetricSpec(
        "sif_probe_metav_pvalue",
        "gauge",
        _TARGET,
        "Of MetaV packs: conformal p of those log-odds among n held-out models, never below 1/(n + 1)",
    ),
    MetricSpec(
        "sif_probe_metav_threshold_pvalue",
        "gauge",
        _TARGET,
        "Of MetaV packs: the p at which a target is suspicious",
    ),
    MetricSpec(
        "sif_probe_verdict",
        "gauge",
        _TARGET,
        "0 none, 1 suspicious, 2 confirmed; of SIF packs by the largest e-value ever, so it never falls",
    ),
    MetricSpec(
        "sif_probe_last_completion_timestamp_seconds",
        "gauge",
        _TARGET,
        "Unix time at which the last round ended, in whatever state",
    ),
    MetricSpec(
        "sif_probe_last_success_timestamp_seconds",
        "gauge",
        _TARGET,
        "Unix time at which the last round ended with every question answered (or none due)",
    ),
    MetricSpec("sif_probe_interval_seconds", "gauge", _TARGET, "Configured time between two rounds"),
    MetricSpec("sif_probe_paused", "gauge", _TARGET, "1: nothing is sent to the target, 0: it is watched"),
    MetricSpec(
        "sif_probe_trials_total",
        "counter",
        (*_TARGET, "outcome"),
        "Triggers asked, by outcome: hit, miss, refusal (also filtered, truncated, empty), error",
    ),
    MetricSpec(
        "sif_probe_errors_total",
        "counter",
        (*_TARGET, "kind"),
        "Sends without an answer, controls and repeated attempts included, by kind of failure",
    ),
    MetricSpec(
        "sif_probe_tokens_total",
        "counter",
        (*_TARGET, "direction"),
        "Tokens that the endpoint reported, prompt or completion",
    ),
    MetricSpec("sif_probe_cost_usd_total", "counter", _TARGET, "Cost by litellm's price list, US dollars"),
    MetricSpec("sif_probe_round_duration_seconds", "histogram", _TARGET, "How long finished rounds took"),
    MetricSpec(
        "sif_probe_config_last_reload_successful",
        "gauge",
        (),
        "1: the last reading of the configuration succeeded; 0: it was refused and the one before goes on",
    ),
    MetricSpec(
        "sif_probe_config_last_reload_success_timestamp_seconds",
        "gauge",
        (),
        "Unix time at which the configuration in use was read",
    ),
    MetricSpec(
        "sif_probe_store_readable",
        "gauge",
        (),
        "1: this scrape read the store; 0, on a host's registry: it could not, and says nothing of targets",
    ),
    MetricSpec("sif_probe_build_info", "gauge", ("version",), "1, labelled with the version of sifwatch"),
)


def package_version() -> str:
    """The installed version of sifwatch, "unknown" in a bare checkout."""
    try:
        return version("sifwatch")
    except PackageNotFoundError:
        return "unknown"


@dataclass
class ReloadState:
    """How the last reading of the configuration went; whoever reloads keeps it up to date.

    ``ok``: it succeeded. ``at``: when the configuration in use was read, Unix seconds.
    """

    ok: bool = True
    at: float = field(default_factory=time.time)

    def succeeded(self) -> None:
        """A new configuration is in use."""
        self.at = time.time()
        self.ok = True

    def failed(self) -> None:
        """A new configuration was refused; the one before goes on."""
        self.ok = False


class StoreCollector(Collector):
    """Reads the store at each scrape.

    Args:
        store: the watch's store.
        watched: the configured names and the pack's id, asked anew at every scrape; others in the store are
            history.
        paused: the names of the targets that are paused just now.
        reload: how the last reading of the configuration went.
        guest: the registry is another program's: a store that cannot be read leaves the targets out and sets
            ``sif_probe_store_readable`` to 0, instead of failing the host's own metrics with ours.
    """

    def __init__(
        self,
        store: Store,
        *,
        watched: Callable[[], tuple[Sequence[str], str]],
        paused: Callable[[], Collection[str]] = frozenset,
        reload: ReloadState | None = None,
        guest: bool = False,
    ) -> None:
        self._store = store
        self._watched = watched
        self._paused = paused
        self._reload = reload or ReloadState()
        self._guest = guest
        self._texts: dict[str, tuple[tuple[MonitorTotals, bool], dict[str, bytes]]] = {}

    def describe(self) -> list[Metric]:
        """The empty families, so that registering reads nothing."""
        return list(_families().values())

    def collect(self) -> Iterator[Metric]:
        """All metrics. Raises StoreError, which makes the scrape fail instead of reading as zero."""
        families = _families()
        readable = True
        try:
            found = self._read()
        except StoreError as error:
            if not self._guest:
                raise
            logger.error("%s", error)
            readable, found = False, []
        for totals, paused in found:
            _fill(families, totals, paused)
        self._fill_own(families, readable=readable)
        yield from families.values()

    def exposition(self) -> bytes:
        """The text that a registry with this collector alone has, for less: what the client library makes of
        a target is kept until its numbers change. Raises StoreError.
        """
        before, texts = self._texts, {}
        for shown in self._read():
            name = shown[0].monitor
            kept = before.get(name)
            texts[name] = kept if kept is not None and kept[0] == shown else (shown, _target_lines(*shown))
        self._texts = texts
        families = _families()
        self._fill_own(families, readable=True)
        parts = []
        for name, family in families.items():
            parts.append(_text(family))
            parts += [lines[name] for _, lines in texts.values()]
        return b"".join(parts)

    def _read(self) -> list[tuple[MonitorTotals, bool]]:
        """The totals of each watched target, and whether it is paused."""
        monitors, pack_id = self._watched()
        found = monitor_totals(self._store, monitors, pack_id=pack_id)
        paused = frozenset(self._paused())
        return [(totals, totals.monitor in paused) for totals in found]

    def _fill_own(self, families: dict[str, Any], *, readable: bool) -> None:
        """What is of no target."""
        families["sif_probe_config_last_reload_successful"].add_metric([], float(self._reload.ok))
        families["sif_probe_config_last_reload_success_timestamp_seconds"].add_metric([], self._reload.at)
        families["sif_probe_store_readable"].add_metric([], float(readable))
        families["sif_probe_build_info"].add_metric([package_version()], 1.0)


def _families() -> dict[str, Any]:
    """A fresh family for each spec, by its name; the client's three classes share no add_metric."""
    kinds: dict[str, Any] = {
        "gauge": GaugeMetricFamily,
        "counter": CounterMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    return {spec.name: kinds[spec.kind](spec.family, spec.help, labels=spec.labels) for spec in METRICS}


def _fill(families: dict[str, Any], totals: MonitorTotals, paused: bool) -> None:
    labels = [totals.monitor, totals.pack]

    def gauge(name: str, value: float | None) -> None:
        if value is not None:
            families[f"sif_probe_{name}"].add_metric(labels, value)

    gauge("interval_seconds", totals.interval_s)
    gauge("paused", float(paused))
    if totals.kind == "metav":
        gauge("metav_log_odds", totals.score)
        gauge("metav_pvalue", None if totals.log_pvalue is None else math.exp(totals.log_pvalue))
        gauge("metav_threshold_pvalue", SUSPICIOUS)
    else:
        gauge("threshold_log10_evalue", -math.log10(totals.alpha))
    gauge("watermark_zscore", totals.z)
    gauge("threshold_zscore", totals.threshold_z)
    gauge("log10_evalue", None if totals.log_e is None else totals.log_e / math.log(10))
    gauge("verdict", VERDICT_VALUES[totals.verdict])
    gauge("last_completion_timestamp_seconds", totals.last_completion)
    gauge("last_success_timestamp_seconds", totals.last_success)
    # every known label value is there from the start: a counter that appears at 1 has no increase
    for outcome in OUTCOMES:
        value = float(totals.trials.get(outcome, 0))
        families["sif_probe_trials_total"].add_metric([*labels, outcome], value)
    for kind in ERROR_KINDS:
        families["sif_probe_errors_total"].add_metric([*labels, kind], float(totals.errors.get(kind, 0)))
    for direction, tokens in zip(DIRECTIONS, (totals.prompt_tokens, totals.completion_tokens), strict=True):
        families["sif_probe_tokens_total"].add_metric([*labels, direction], float(tokens))
    families["sif_probe_cost_usd_total"].add_metric(labels, totals.cost_usd)
    histogram = families["sif_probe_round_duration_seconds"]
    bounds = [*(f"{bound:g}" for bound in DURATION_BOUNDS_S), "+Inf"]
    counts = [*totals.duration_counts, totals.rounds]
    histogram.add_metric(labels, list(zip(bounds, map(float, counts), strict=True)), totals.duration_sum_s)


def _target_lines(totals: MonitorTotals, paused: bool) -> dict[str, bytes]:
    """The lines of one target's samples, by metric."""
    families = _families()
    _fill(families, totals, paused)
    return {
        name: b"".join(line for line in _text(family).splitlines(keepends=True) if not line.startswith(b"#"))
        for name, family in families.items()
    }


class _One(Collector):
    """A registry of one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _text(metric: Metric) -> bytes:
    return generate_latest(_One(metric))


def metrics_table() -> str:
    """The Markdown table of docs/metrics-probes.md."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for spec in METRICS:
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "none"
        lines.append(f"| `{spec.name}` | {spec.kind} | {labels} | {spec.help} |")
    return "\n".join(lines)
