"""PromQL of rules and dashboards: does it parse, which metrics does it ask for, are they exported."""

import re

import promql_parser
from prometheus_client import CollectorRegistry

from gateway_plugin.metrics import GatewayMetrics
from probes.metrics import METRICS

PARTS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def probe_metrics() -> set[str]:
    """The series names that the probes export."""
    names = {spec.name for spec in METRICS if spec.kind != "histogram"}
    return names | {
        f"{spec.name}{part}" for spec in METRICS if spec.kind == "histogram" for part in PARTS["histogram"]
    }


def gateway_metrics() -> set[str]:
    """The series names that the gateway exports."""
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    return {f"{family.name}{part}" for family in registry.collect() for part in PARTS[family.type]}


def plain(expression: str) -> str:
    """A dashboard's expression as Prometheus gets it, every variable being "all"."""
    return re.sub(r"\$(\w+)", ".*", expression.replace("$__rate_interval", "5m"))


def metric_names(expression: str) -> set[str]:
    """Parse an expression; the metric names that it selects."""
    tree = promql_parser.parse(plain(expression))
    return set(re.findall(r"\b((?:sif|up)\w*)\s*(?:\{|\[|$|\s|\))", tree.prettify()))
