"""The owner's dashboard from code; run ``python -m deploy.grafana.build.owner`` to rewrite the JSON.

Needs the pinned ``grafana-foundation-sdk==1769699379!11.6.0``. A test holds the JSON to what this builds.
"""

from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, stat, timeseries
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.build.panels import Panels, rendered, variable

OUTPUT = Path(__file__).parents[1] / "dashboards" / "owner.json"
PANELS = Panels(picked='monitor=~"$monitor",pack=~"$pack"')
# `max by` in every query: several replicas on one store all show the same figures


def verdicts() -> stat.Panel:
    """The verdict of every target as a word and a colour."""
    words = {
        "0": models.ValueMappingResult(text="none", color="green", index=0),
        "1": models.ValueMappingResult(text="suspicious", color="orange", index=1),
        "2": models.ValueMappingResult(text="confirmed", color="red", index=2),
    }
    steps = [
        models.Threshold(value=None, color="green"),
        models.Threshold(value=1, color="orange"),
        models.Threshold(value=2, color="red"),
    ]
    panel = PANELS.framed(
        stat.Panel(),
        "Verdict",
        "By the largest e-value ever: confirmed means 1/alpha was reached against an unrelated model.",
        "none",
        ("max by (monitor) (sif_probe_verdict{PICKED})", "{{monitor}}"),
    )
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    return panel.mappings([models.ValueMap(options=words)]).thresholds(thresholds)


def panels() -> tuple[stat.Panel | timeseries.Panel, ...]:
    """Every panel, in order."""
    lines = PANELS.lines
    return (
        verdicts(),
        lines(
            "Evidence (log10 e-value)",
            "Against an unrelated model. It may be looked at as often as one likes; the line is 1/alpha.",
            "none",
            ("max by (monitor) (sif_probe_log10_evalue{PICKED})", "{{monitor}}"),
            ("max by (pack) (sif_probe_threshold_log10_evalue{PICKED})", "1/alpha"),
        ),
        lines(
            "z of the last round",
            "Stouffer z over distinct types, against independent text. One round alone proves little.",
            "none",
            ("max by (monitor) (sif_probe_watermark_zscore{PICKED})", "{{monitor}}"),
            ("max by (pack) (sif_probe_threshold_zscore{PICKED})", "tau"),
        ),
        lines(
            "Triggers asked, by outcome",
            "Refusals (also filtered, truncated and empty answers) are neither hits nor misses.",
            "short",
            (
                "sum by (monitor, outcome) (max by (monitor, pack, outcome) "
                "(increase(sif_probe_trials_total{PICKED}[$__rate_interval])))",
                "{{monitor}} {{outcome}}",
            ),
        ),
        lines(
            "Sends without an answer, by kind",
            "Whatever may have been answered is in doubt and is not sent again before its cool-down.",
            "short",
            (
                "sum by (monitor, kind) (max by (monitor, pack, kind) "
                "(increase(sif_probe_errors_total{PICKED}[$__rate_interval]))) > 0",
                "{{monitor}} {{kind}}",
            ),
        ),
        lines(
            "Age of the last round",
            "Stale after two intervals.",
            "s",
            (
                "time() - max by (monitor) (sif_probe_last_completion_timestamp_seconds{PICKED})",
                "{{monitor}}",
            ),
            ("max by (pack) (2 * sif_probe_interval_seconds{PICKED})", "two intervals"),
        ),
        lines(
            "Round duration, 90 %",
            "How long rounds take.",
            "s",
            (
                "histogram_quantile(0.9, sum by (monitor, le) "
                "(rate(sif_probe_round_duration_seconds_bucket{PICKED}[$__rate_interval])))",
                "{{monitor}}",
            ),
        ),
        lines(
            "Cost",
            "By litellm's price list; zero for endpoints that it does not know.",
            "currencyUSD",
            (
                "sum by (monitor) (max by (monitor, pack) "
                "(increase(sif_probe_cost_usd_total{PICKED}[$__rate_interval])))",
                "{{monitor}}",
            ),
        ),
    )


def render() -> str:
    """The JSON as it is committed."""
    return rendered(
        name="owner",
        description="Who serves the fingerprinted model? Verdicts, evidence and the state of the probes.",
        since="now-7d",
        variables=(
            variable("pack", "Pack", "label_values(sif_probe_verdict, pack)"),
            variable("monitor", "Target", 'label_values(sif_probe_verdict{pack=~"$pack"}, monitor)'),
        ),
        panels=panels(),
    )


if __name__ == "__main__":
    OUTPUT.write_text(render(), "utf-8")
