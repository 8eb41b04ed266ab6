"""The gateway's dashboard is what its code builds, and asks only for metrics that exist."""

import json
import re

import promql_parser
from prometheus_client import CollectorRegistry

from deploy.grafana.build import gateway
from gateway_plugin.metrics import GatewayMetrics


def test_the_committed_dashboard_is_the_built_one() -> None:
    assert gateway.OUTPUT.read_text() == gateway.render()


def test_its_queries_parse_and_name_our_metrics() -> None:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    names = {
        f"{metric.name}{suffix}"
        for metric in registry.collect()
        for suffix in {"counter": ["_total"], "histogram": ["_bucket"], "gauge": [""]}[metric.type]
    }
    board = json.loads(gateway.render())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) >= 8
    for query in queries:
        promql_parser.parse(query.replace("$__rate_interval", "5m"))
        assert set(re.findall(r"sif_gateway_\w+", query)) <= names
