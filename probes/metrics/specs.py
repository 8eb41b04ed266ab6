"""Every metric of the probes: docs/metrics-probes.md is made from this list.

Labels are bounded: names of the configuration, the pack's id, and fixed words. Never a URL, a text or a
trigger id.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

from probes.targets import FAILURE_KINDS

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


def metrics_table() -> str:
    """The Markdown table of docs/metrics-probes.md."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for spec in METRICS:
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "none"
        lines.append(f"| `{spec.name}` | {spec.kind} | {labels} | {spec.help} |")
    return "\n".join(lines)
