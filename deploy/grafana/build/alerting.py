"""Grafana-managed alert rules from the Prometheus ones; run ``python -m deploy.grafana.build.alerting``.

Each rule asks Prometheus the very expression of ``deploy/prometheus/rules/sif.yml`` and fires for every
series that comes back, as Prometheus does. The three steps are those of Grafana's own import of Prometheus
rules: the query, whether a number is there, whether that is over 0. A test holds the YAML to what this
builds.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders import alerting, expr, prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.alerting import RelativeTimeRange
from grafana_foundation_sdk.models.dashboard import DataSourceRef

DEPLOY = Path(__file__).parents[2]
RULES = DEPLOY / "prometheus" / "rules" / "sif.yml"
OUTPUT = DEPLOY / "grafana" / "provisioning" / "alerting" / "rules.yaml"
DATASOURCE = "prometheus"
"""The uid in provisioning/datasources."""

EXPRESSIONS = "__expr__"
QUERY, FOUND, CONDITION = "query", "found", "condition"
LOOK_BACK_S = 600
HEAD = "# made by python -m deploy.grafana.build.alerting from deploy/prometheus/rules/sif.yml; do not edit\n"


def steps(expression: str) -> tuple[alerting.Query, ...]:
    """The query, whether it brought a number, and the condition on that."""
    asked = (
        prometheus.Dataquery()
        .expr(expression)
        .instant()
        .ref_id(QUERY)
        .datasource(DataSourceRef(type_val="prometheus", uid=DATASOURCE))
    )
    server = DataSourceRef(type_val=EXPRESSIONS, uid=EXPRESSIONS)
    numbers = f"is_number(${QUERY}) || is_nan(${QUERY}) || is_inf(${QUERY})"
    found = expr.TypeMath().expression(numbers).ref_id(FOUND).datasource(server)
    over_zero = expr.ExprTypeThresholdConditionsEvaluator().type("gt").params([0])
    condition = (
        expr.TypeThreshold()
        .expression(FOUND)
        .conditions([expr.ExprTypeThresholdConditions().evaluator(over_zero)])
        .ref_id(CONDITION)
        .datasource(server)
    )
    look_back, none = RelativeTimeRange(from_val=LOOK_BACK_S, to=0), RelativeTimeRange(from_val=0, to=0)
    return (
        alerting.Query(QUERY).datasource_uid(DATASOURCE).model(asked).relative_time_range(look_back),
        alerting.Query(FOUND).datasource_uid(EXPRESSIONS).model(found).relative_time_range(none),
        alerting.Query(CONDITION).datasource_uid(EXPRESSIONS).model(condition).relative_time_range(none),
    )


def rule(source: Mapping[str, Any]) -> alerting.Rule:
    """One rule. No data says that all is well, as with Prometheus; a failed query is told of."""
    name = source["alert"]
    return (
        alerting.Rule(name)
        .uid("sifwatch-" + re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower())
        .condition(CONDITION)
        .queries(list(steps(source["expr"])))
        .no_data_state("OK")
        .exec_err_state("Error")
        .for_val(source.get("for", "0s"))
        .labels(source["labels"])
        # Grafana's $value is a text about every step; the figure is the query's
        .annotations(
            {k: v.replace("$value", f"$values.{QUERY}.Value") for k, v in source["annotations"].items()}
        )
    )


def group(source: Mapping[str, Any]) -> dict[str, Any]:
    """One group in the form of a provisioning file, which is the API's but for what surrounds the rules."""
    rules = json.loads(JSONEncoder(sort_keys=True).encode([rule(each).build() for each in source["rules"]]))
    for each in rules:  # the file names them once, on the group
        for key in ("orgID", "folderUID", "ruleGroup"):
            each.pop(key, None)
    return {"orgId": 1, "name": source["name"], "folder": "sifwatch", "interval": "1m", "rules": rules}


def render() -> str:
    """The YAML as it is committed."""
    groups = [group(each) for each in yaml.safe_load(RULES.read_text("utf-8"))["groups"]]
    document = {"apiVersion": 1, "groups": groups}
    return HEAD + yaml.safe_dump(document, sort_keys=False, width=110)


if __name__ == "__main__":
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(render(), "utf-8")
