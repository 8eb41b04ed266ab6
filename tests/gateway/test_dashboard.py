"""The gateway's dashboard is what its code builds, and asks only for metrics that exist."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import promql_parser
import pytest
from prometheus_client import CollectorRegistry

from gateway_plugin.metrics import GatewayMetrics

BUILD = Path(__file__).parents[2] / "deploy" / "grafana" / "build" / "gateway.py"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gateway_dashboard", BUILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_dashboard_is_the_built_one(builder: ModuleType) -> None:
    assert builder.OUTPUT.read_text() == builder.render()


def test_its_queries_parse_and_name_our_metrics(builder: ModuleType) -> None:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    names = {
        f"{metric.name}{suffix}"
        for metric in registry.collect()
        for suffix in {"counter": ["_total"], "histogram": ["_bucket"], "gauge": [""]}[metric.type]
    }
    board = json.loads(builder.render())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) >= 8
    for query in queries:
        promql_parser.parse(query.replace("$__rate_interval", "5m"))
        assert set(re.findall(r"sif_gateway_\w+", query)) <= names
