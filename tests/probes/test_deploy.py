"""The owner's rules, Alertmanager and example configuration, checked by the tools themselves."""

import yaml

from probes.config import load_config
from tests.deploy.promql import metric_names, probe_metrics
from tests.deploy.tools import DEPLOY, found, passes

WITH = "Debian: apt install prometheus prometheus-alertmanager"


def test_promtool_accepts_the_configuration_and_the_rules_do_what_they_say() -> None:
    tool = found("promtool", comes_with=WITH)
    passes(tool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    passes(tool, "test", "rules", DEPLOY / "prometheus" / "tests" / "sif_test.yml")


def test_amtool_accepts_the_alertmanager_configuration() -> None:
    passes(found("amtool", comes_with=WITH), "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


def test_every_rule_names_exported_metrics_and_has_a_test() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "sif.yml").read_text("utf-8"))
    tested = (DEPLOY / "prometheus" / "tests" / "sif_test.yml").read_text("utf-8")
    seen = 0
    for group in rules["groups"]:
        for rule in group["rules"]:
            names = metric_names(rule["expr"])
            assert names
            assert names <= probe_metrics() | {"up"}, rule["alert"]
            assert f"alertname: {rule['alert']}\n" in tested, f"{rule['alert']} has no unit test"
            assert rule["labels"]["severity"] in ("warning", "critical")
            seen += 1
    assert seen == 9


def test_the_example_configuration_is_read() -> None:
    assert load_config(DEPLOY / "probes.yaml").targets
