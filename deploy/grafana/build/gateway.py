"""The gateway's dashboard from code; run ``python deploy/grafana/build/gateway.py`` to rewrite the JSON.

Needs the pinned ``grafana-foundation-sdk==1769699379!11.6.0``. A test holds the JSON to what this builds.
"""

from pathlib import Path

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

OUTPUT = Path(__file__).parents[1] / "dashboards" / "gateway.json"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
PICKED = 'instance=~"$instance"'


def lines(
    title: str, description: str, unit: str, *queries: tuple[str, str], width: int = 12
) -> timeseries.Panel:
    """A panel over time; PICKED in a query is what the variable at the top has chosen."""
    panel = timeseries.Panel().title(title).description(description).unit(unit).datasource(SOURCE)
    panel.span(width).height(8)
    for expr, legend in queries:
        panel.with_target(prometheus.Dataquery().expr(expr.replace("PICKED", PICKED)).legend_format(legend))
    legend_options = common_builders.VizLegendOptions().show_legend(True)
    return panel.legend(
        legend_options.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    )


def quantiles(metric: str, label: str) -> tuple[tuple[str, str], ...]:
    """Median and 99 % of a histogram, one line a value of ``label``."""
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({label}, le) "
            f"(rate({metric}_bucket{{PICKED}}[$__rate_interval])))",
            f"{{{{{label}}}}} {name}",
        )
        for q, name in ((0.5, "p50"), (0.99, "p99"))
    )


def build() -> dashboard.Dashboard:
    """The dashboard."""
    instance = (
        dashboard.QueryVariable("instance")
        .label("Gateway")
        .query("label_values(sif_gateway_decisions_total, instance)")
        .datasource(SOURCE)
        .multi(True)
        .include_all(True)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .current(models.VariableOption(text="All", value="$__all"))
    )
    board = (
        dashboard.Dashboard("sifwatch: gateway")
        .uid("sifwatch-gateway")
        .description("What the gateway's screening does with queries and answers, and what it costs.")
        .tags(["sifwatch", "generated"])
        .refresh("1m")
        .time("now-24h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(instance)
    )
    rate = "(rate(sif_gateway_decisions_total{PICKED%s}[$__rate_interval]))"
    panels = (
        lines(
            "Exchanges that were not simply allowed, per second",
            "Blocked and replaced reach the client; flagged and logged do not; would_: a dry run; bypassed: "
            "a check was broken or the caller is on the allow-list.",
            "reqps",
            ("sum by (check, result) " + rate % ',result!="allowed"', "{{check}} {{result}}"),
            width=24,
        ),
        lines(
            "Share flagged, blocked or replaced",
            "Of all decisions of a check. On honest traffic perplexity lies near 1 %: well above it, "
            "somebody asks strange questions or the thresholds do not fit the traffic.",
            "percentunit",
            (
                "sum by (check) "
                + rate % ',result=~"flagged|blocked|replaced"'
                + " / sum by (check) "
                + rate % "",
                "{{check}}",
            ),
        ),
        lines(
            "Checks that could not do their work",
            "Each kind passes or blocks as on_failure says.",
            "short",
            (
                "sum by (check, kind) "
                "(increase(sif_gateway_check_failures_total{PICKED}[$__rate_interval])) > 0",
                "{{check}} {{kind}}",
            ),
        ),
        lines(
            "Time until a finding",
            "Perplexity is added to every request before the main model; divergence after it.",
            "s",
            *quantiles("sif_gateway_check_seconds", "check"),
        ),
        lines(
            "Reference model",
            "Runs beside the main model, so it adds latency only where it is slower.",
            "s",
            *quantiles("sif_gateway_reference_seconds", "outcome"),
        ),
        lines(
            "Texts waiting for the language model",
            "When max_queue is reached the check fails (queue_full).",
            "short",
            ("sum by (instance) (sif_gateway_queue_depth{PICKED})", "{{instance}}"),
        ),
        lines(
            "Texts that the language model did not need to see, per second",
            "Known: seen before (system prompts, earlier turns). Plain: decided by the statistical model.",
            "ops",
            ("sum (rate(sif_gateway_cache_hits_total{PICKED}[$__rate_interval]))", "known"),
            ("sum (rate(sif_gateway_cheap_decisions_total{PICKED}[$__rate_interval]))", "plain"),
        ),
        lines(
            "Tokens of the reference model, per second",
            "What comparing answers costs: sample less (reference_sampling_rate) or set a budget.",
            "short",
            (
                "sum by (kind) (rate(sif_gateway_reference_tokens_total{PICKED}[$__rate_interval]))",
                "{{kind}}",
            ),
        ),
        lines(
            "Cost of the reference model, dollars an hour",
            "By LiteLLM's price list; a model without a price counts as nothing.",
            "currencyUSD",
            (
                "3600 * sum (rate(sif_gateway_reference_cost_usd_total{PICKED}[$__rate_interval]))",
                "reference",
            ),
        ),
        lines(
            "Audit records that were not kept",
            "full: more than the queue holds waited; sink: the target could not be written.",
            "short",
            (
                "sum by (kind) (increase(sif_gateway_audit_lost_total{PICKED}[$__rate_interval]))",
                "{{kind}}",
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
