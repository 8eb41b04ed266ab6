"""The gateway's dashboard from code; run ``python -m deploy.grafana.build.gateway`` to rewrite the JSON.

Needs the pinned ``grafana-foundation-sdk==1769699379!11.6.0``. A test holds the JSON to what this builds.
"""

from pathlib import Path

from grafana_foundation_sdk.builders import timeseries

from deploy.grafana.build.panels import Panels, Query, rendered, variable

OUTPUT = Path(__file__).parents[1] / "dashboards" / "gateway.json"
PANELS = Panels(picked='instance=~"$instance"')


def quantiles(metric: str, label: str) -> tuple[Query, ...]:
    """Median and 99 % of a histogram, one line a value of ``label``."""
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({label}, le) "
            f"(rate({metric}_bucket{{PICKED}}[$__rate_interval])))",
            f"{{{{{label}}}}} {name}",
        )
        for q, name in ((0.5, "p50"), (0.99, "p99"))
    )


def panels() -> tuple[timeseries.Panel, ...]:
    """Every panel, in order."""
    lines = PANELS.lines
    rate = "(rate(sif_gateway_decisions_total{PICKED%s}[$__rate_interval]))"
    return (
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
            "Calls that checks made themselves, per second",
            "The judge's and image consistency's; each is paid for (asking_calls_per_minute bounds them).",
            "ops",
            ("sum (rate(sif_gateway_asked_calls_total{PICKED}[$__rate_interval]))", "calls"),
        ),
        lines(
            "What was not kept",
            "Audit records: full, more than the queue holds waited; sink, the target could not be written. "
            "Calls between their two phases: full, beyond max_calls; expired, older than state_ttl_s.",
            "short",
            (
                "sum by (kind) (increase(sif_gateway_audit_lost_total{PICKED}[$__rate_interval]))",
                "audit {{kind}}",
            ),
            (
                "sum by (kind) (increase(sif_gateway_states_lost_total{PICKED}[$__rate_interval]))",
                "call {{kind}}",
            ),
        ),
    )


def render() -> str:
    """The JSON as it is committed."""
    return rendered(
        name="gateway",
        description="What the gateway's screening does with queries and answers, and what it costs.",
        since="now-24h",
        variables=(variable("instance", "Gateway", "label_values(sif_gateway_decisions_total, instance)"),),
        panels=panels(),
    )


if __name__ == "__main__":
    OUTPUT.write_text(render(), "utf-8")
