"""The owner's dashboard from code; run ``python deploy/grafana/build/owner.py`` to rewrite the JSON.

Needs the pinned ``grafana-foundation-sdk==1769699379!11.6.0``. A test holds the JSON to what this builds.
"""

from pathlib import Path
from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

OUTPUT = Path(__file__).parents[1] / "dashboards" / "owner.json"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
PICKED = 'monitor=~"$monitor",pack=~"$pack"'

PanelT = TypeVar("PanelT", stat.Panel, timeseries.Panel)


def query(expr: str, legend: str) -> prometheus.Dataquery:
    """A Prometheus query; PICKED in it is what the variables at the top have chosen."""
    return prometheus.Dataquery().expr(expr.replace("PICKED", PICKED)).legend_format(legend)


def framed(
    panel: PanelT, title: str, description: str, unit: str, *queries: prometheus.Dataquery, width: int = 12
) -> PanelT:
    """What every panel has: title, description, unit, data source, size, queries."""
    panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(8)
    for each in queries:
        panel.with_target(each)
    return panel


def lines(title: str, description: str, unit: str, *queries: prometheus.Dataquery) -> timeseries.Panel:
    """A panel over time."""
    panel = framed(timeseries.Panel(), title, description, unit, *queries)
    legend = common_builders.VizLegendOptions().show_legend(True)
    return panel.legend(
        legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    )


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
    panel = framed(
        stat.Panel(),
        "Verdict",
        "By the largest e-value ever: confirmed means 1/alpha was reached against an unrelated model.",
        "none",
        query("max by (monitor) (sif_probe_verdict{PICKED})", "{{monitor}}"),
    )
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    return panel.mappings([models.ValueMap(options=words)]).thresholds(thresholds)


def variable(name: str, label: str, values: str) -> dashboard.QueryVariable:
    """A choice at the top, filled from Prometheus; all by default."""
    made = dashboard.QueryVariable(name).label(label).query(values).datasource(SOURCE)
    made.multi(True).include_all(True).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.current(models.VariableOption(text="All", value="$__all"))


def build() -> dashboard.Dashboard:
    """The dashboard."""
    board = (
        dashboard.Dashboard("sifwatch: owner")
        .uid("sifwatch-owner")
        .description("Who serves the fingerprinted model? Verdicts, evidence and the state of the probes.")
        .tags(["sifwatch", "generated"])
        .refresh("1m")
        .time("now-7d", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(variable("pack", "Pack", "label_values(sif_probe_verdict, pack)"))
        .with_variable(
            variable("monitor", "Target", 'label_values(sif_probe_verdict{pack=~"$pack"}, monitor)')
        )
    )
    panels = (
        verdicts(),
        lines(
            "Evidence (log10 e-value)",
            "Against an unrelated model. It may be looked at as often as one likes; the line is 1/alpha.",
            "none",
            query("sif_probe_log10_evalue{PICKED}", "{{monitor}}"),
            query("max by (pack) (sif_probe_threshold_log10_evalue{PICKED})", "1/alpha"),
        ),
        lines(
            "z of the last round",
            "Stouffer z over distinct types, against independent text. One round alone proves little.",
            "none",
            query("sif_probe_watermark_zscore{PICKED}", "{{monitor}}"),
            query("max by (pack) (sif_probe_threshold_zscore{PICKED})", "tau"),
        ),
        lines(
            "Triggers asked, by outcome",
            "Refusals (also filtered, truncated and empty answers) are neither hits nor misses.",
            "short",
            query(
                "sum by (monitor, outcome) (increase(sif_probe_trials_total{PICKED}[$__rate_interval]))",
                "{{monitor}} {{outcome}}",
            ),
        ),
        lines(
            "Sends without an answer, by kind",
            "Whatever may have been answered is in doubt and is not sent again before its cool-down.",
            "short",
            query(
                "sum by (monitor, kind) (increase(sif_probe_errors_total{PICKED}[$__rate_interval])) > 0",
                "{{monitor}} {{kind}}",
            ),
        ),
        lines(
            "Age of the last round",
            "Stale after two intervals.",
            "s",
            query("time() - sif_probe_last_completion_timestamp_seconds{PICKED}", "{{monitor}}"),
            query("max by (pack) (2 * sif_probe_interval_seconds{PICKED})", "two intervals"),
        ),
        lines(
            "Round duration, 90 %",
            "How long rounds take.",
            "s",
            query(
                "histogram_quantile(0.9, sum by (monitor, le) "
                "(rate(sif_probe_round_duration_seconds_bucket{PICKED}[$__rate_interval])))",
                "{{monitor}}",
            ),
        ),
        lines(
            "Cost",
            "By litellm's price list; zero for endpoints that it does not know.",
            "currencyUSD",
            query(
                "sum by (monitor) (increase(sif_probe_cost_usd_total{PICKED}[$__rate_interval]))",
                "{{monitor}}",
            ),
        ),
    )
    for panel in panels:
        board.with_panel(panel)
    return board


def render() -> str:
    """The JSON as it is committed."""
    return str(JSONEncoder(sort_keys=True, indent=2).encode(build().build())) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(render(), "utf-8")
