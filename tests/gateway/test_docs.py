"""Every setting and every metric of the gateway stands in docs/gateway.md."""

from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from gateway_plugin.config import GatewaySettings
from gateway_plugin.config.checks import Checks, CheckSettings, PluginSettings
from gateway_plugin.metrics import GatewayMetrics

DOC = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")


def test_every_setting_is_documented() -> None:
    models: list[type[BaseModel]] = [GatewaySettings, PluginSettings]
    models += [
        type(field.default)
        for field in Checks.model_fields.values()
        if isinstance(field.default, CheckSettings)
    ]
    for model in models:
        for name in set(model.model_fields) - {"checks"}:
            assert f"`{name}`" in DOC or f".{name}`" in DOC, f"{model.__name__}.{name}"
    for name in Checks.model_fields:
        assert f"| `{name}` |" in DOC


def test_every_metric_is_documented() -> None:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    for metric in registry.collect():
        suffix = "_total" if metric.type == "counter" else ""
        assert f"`{metric.name}{suffix}`" in DOC
