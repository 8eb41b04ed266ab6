"""Grafana's own alert rules mean what the Prometheus rules mean, and nothing of them is broken by Grafana."""

import re
from typing import Any

import pytest
import yaml

from deploy.grafana.build import alerting
from tests.deploy.promql import metric_names, probe_metrics
from tests.deploy.tools import DEPLOY

FOLDER = DEPLOY / "grafana" / "provisioning" / "alerting"


def rules_of(text: str) -> dict[str, dict[str, Any]]:
    """Rules by name; both files have groups of rules."""
    document = yaml.safe_load(text)
    return {
        rule.get("title") or rule["alert"]: rule for group in document["groups"] for rule in group["rules"]
    }


COMMITTED = rules_of(alerting.OUTPUT.read_text("utf-8"))
PROMETHEUS = rules_of(alerting.RULES.read_text("utf-8"))


def test_the_committed_rules_are_what_the_code_builds() -> None:
    assert alerting.OUTPUT.read_text("utf-8") == alerting.render(), f"run python -m {alerting.__name__}"


def test_each_prometheus_rule_has_its_grafana_rule_and_no_other_is_there() -> None:
    assert set(COMMITTED) == set(PROMETHEUS)
    assert {"SifWatermarkAboveThreshold", "SifWatermarkConfirmed", "SifProbeStale"} <= set(COMMITTED)


@pytest.mark.parametrize("name", PROMETHEUS)
def test_a_rule_fires_for_every_series_of_the_same_query(name: str) -> None:
    made, source = COMMITTED[name], PROMETHEUS[name]
    query, found, condition = (step["model"] for step in made["data"])
    assert query["expr"] == source["expr"]
    assert query["instant"] is True
    assert metric_names(query["expr"]) <= probe_metrics() | {"up"}
    # any number at all, 0 and negative ones too, as Prometheus does
    assert found["expression"] == "is_number($query) || is_nan($query) || is_inf($query)"
    assert (condition["expression"], condition["conditions"][0]["evaluator"]) == (
        found["refId"],
        {"type": "gt", "params": [0]},
    )
    assert made["condition"] == condition["refId"]
    assert made["for"] == source.get("for", "0s")
    assert made["labels"] == source["labels"]
    # no series: all is well; Prometheus away: not
    assert (made["noDataState"], made["execErrState"]) == ("OK", "Error")


@pytest.mark.parametrize("name", PROMETHEUS)
def test_annotations_use_what_grafana_knows(name: str) -> None:
    for key, text in COMMITTED[name]["annotations"].items():
        used = set(re.findall(r"\$\w+(?:\.\w+)*", text))
        assert used <= {
            "$labels.monitor",
            "$labels.pack",
            "$labels.kind",
            "$labels.instance",
            "$values.query.Value",
        }
        assert text.replace("$values.query.Value", "$value") == PROMETHEUS[name]["annotations"][key]
        # Grafana expands ${NAME} from its environment when it reads the file
        assert "${" not in text


def test_identities_are_unique_and_short_enough_for_grafana() -> None:
    identities = [rule["uid"] for rule in COMMITTED.values()]
    assert len(set(identities)) == len(identities)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid) for uid in identities)


def test_queries_go_to_the_provisioned_data_source() -> None:
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))
    (source,) = sources["datasources"]
    for rule in COMMITTED.values():
        uids = [step["datasourceUid"] for step in rule["data"]]
        assert uids == [source["uid"], "__expr__", "__expr__"]


def test_the_policy_names_the_contact_point_and_no_address_is_written_down() -> None:
    points = yaml.safe_load((FOLDER / "contact-points.yaml").read_text("utf-8"))["contactPoints"]
    (policy,) = yaml.safe_load((FOLDER / "policies.yaml").read_text("utf-8"))["policies"]
    (point,) = points
    assert policy["receiver"] == point["name"]
    (receiver,) = point["receivers"]
    assert receiver["settings"]["url"] == "$SIF_ALERT_WEBHOOK_URL"
    route = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text("utf-8"))["route"]
    for key in ("group_by", "group_wait", "group_interval", "repeat_interval"):
        assert policy[key] == route[key]
