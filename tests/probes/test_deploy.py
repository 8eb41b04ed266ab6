"""What lies in deploy/ for the owner: rules, Alertmanager, dashboard. Checked by the tools themselves."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from deploy.grafana.build import owner
from probes.metrics import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "owner.json"


def needs(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed (Debian: apt install prometheus prometheus-alertmanager)")
    return found


def passes(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_and_the_rules_do_what_they_say() -> None:
    tool = needs("promtool")
    passes(tool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    passes(tool, "test", "rules", DEPLOY / "prometheus" / "tests" / "sif_test.yml")


def test_amtool_accepts_the_alertmanager_configuration() -> None:
    passes(needs("amtool"), "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


def exported_names() -> set[str]:
    names = {spec.name for spec in METRICS}
    for spec in METRICS:
        if spec.kind == "histogram":
            names |= {f"{spec.name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def metric_names(expression: str) -> set[str]:
    """Parse an expression; the metric names that it selects."""
    plain = expression.replace("$__rate_interval", "5m")
    plain = re.sub(r"\$(\w+)", ".*", plain)
    tree = promql_parser.parse(plain)
    return set(re.findall(r"\b((?:sif|up)\w*)\s*(?:\{|\[|$|\s|\))", tree.prettify()))


def test_every_rule_names_exported_metrics_and_has_a_test() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "sif.yml").read_text("utf-8"))
    tested = (DEPLOY / "prometheus" / "tests" / "sif_test.yml").read_text("utf-8")
    found = 0
    for group in rules["groups"]:
        for rule in group["rules"]:
            names = metric_names(rule["expr"])
            assert names
            assert names <= exported_names() | {"up"}, rule["alert"]
            assert f"alertname: {rule['alert']}\n" in tested, f"{rule['alert']} has no unit test"
            assert rule["labels"]["severity"] in ("warning", "critical")
            found += 1
    assert found == 6


@pytest.fixture
def dashboard() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return made


def test_the_committed_dashboard_is_what_its_code_builds() -> None:
    assert owner.render() == DASHBOARD.read_text("utf-8"), f"run python -m {owner.__name__}"


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    assert dashboard["panels"]
    yield from dashboard["panels"]


def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
    kinds = {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "pack": "query", "monitor": "query"}


def test_every_expression_of_the_dashboard_parses_and_names_an_exported_metric(
    dashboard: dict[str, Any],
) -> None:
    seen: set[str] = set()
    for panel in panels(dashboard):
        for target in panel["targets"]:
            expression = target["expr"]
            names = metric_names(expression)
            assert names
            assert names <= exported_names(), panel["title"]
            if "rate(" in expression or "increase(" in expression:
                assert "[$__rate_interval]" in expression
            assert 'monitor=~"$monitor"' in expression
            seen |= names
    for needed in (
        "verdict",
        "log10_evalue",
        "threshold_log10_evalue",
        "watermark_zscore",
        "threshold_zscore",
    ):
        assert f"sif_probe_{needed}" in seen
