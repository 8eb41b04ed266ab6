"""Both dashboards: built from code, every panel explained, every query on exported metrics."""

import json
from types import ModuleType
from typing import Any

import pytest

from deploy.grafana.build import gateway, owner
from tests.deploy.promql import gateway_metrics, metric_names, probe_metrics
from tests.deploy.tools import DEPLOY

BOARDS = {
    "owner": (owner, probe_metrics(), 'monitor=~"$monitor",pack=~"$pack"'),
    "gateway": (gateway, gateway_metrics(), 'instance=~"$instance"'),
}
each_board = pytest.mark.parametrize(("code", "exported", "picked"), BOARDS.values(), ids=BOARDS)


def board_of(code: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(code.OUTPUT.read_text("utf-8"))
    return made


def test_every_dashboard_is_tested() -> None:
    committed = {path.stem for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
    assert committed == set(BOARDS)


@each_board
def test_the_committed_dashboard_is_what_its_code_builds(
    code: ModuleType, exported: set[str], picked: str
) -> None:
    assert code.OUTPUT.read_text("utf-8") == code.render(), f"run python -m {code.__name__}"


@each_board
def test_every_panel_says_what_it_shows(code: ModuleType, exported: set[str], picked: str) -> None:
    board = board_of(code)
    assert board["title"]
    assert board["description"]
    titles = [panel["title"] for panel in board["panels"]]
    assert len(titles) == len(set(titles)) >= 8
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for name, variable in variables.items():
        if name != "datasource":
            assert variable["datasource"]["uid"] == "${datasource}"
            assert f"${name}" in picked


@each_board
def test_every_query_parses_and_asks_for_exported_metrics(
    code: ModuleType, exported: set[str], picked: str
) -> None:
    for panel in board_of(code)["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            names = metric_names(expression)
            assert names
            assert names <= exported, panel["title"]
            assert picked in expression
            assert "PICKED" not in expression
            if "rate(" in expression or "increase(" in expression:
                assert "[$__rate_interval]" in expression
            assert target["legendFormat"], panel["title"]


def test_every_metric_of_the_gateway_is_on_its_dashboard() -> None:
    shown = {
        name
        for panel in board_of(gateway)["panels"]
        for target in panel["targets"]
        for name in metric_names(target["expr"])
    }
    assert {name for name in gateway_metrics() if not name.endswith(("_sum", "_count"))} == shown
