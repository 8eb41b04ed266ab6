"""Grafana's provisioning files hold what Grafana 11 reads, and nothing that it would pass over in silence.

Grafana ignores a key that it does not know. The schemas below are the keys and values of its own readers
(pkg/services/provisioning), as its documentation lists them.
"""

from collections.abc import Collection, Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.tools import DEPLOY

FOLDER = DEPLOY / "grafana" / "provisioning"

NAME = {"type": "string", "minLength": 1, "maxLength": 190}
UID = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"}
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
TEXTS_BY_NAME = {"type": "object", "additionalProperties": TEXT}
YES_OR_NO = {"type": "boolean"}
NUMBER = {"type": "integer", "minimum": 0}
DURATION = {
    "type": "string",
    "pattern": "^(0s|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?)$",
    "minLength": 2,
}
ON_TROUBLE = ["Alerting", "OK", "KeepLast"]


def only(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object with these keys and no others."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


def some(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


def provisioning(key: str, item: dict[str, Any]) -> dict[str, Any]:
    """A whole file: items under its one key."""
    return only({"apiVersion": {"const": 1}, key: some(item)})


DATASOURCES = provisioning(
    "datasources",
    only(
        {"name": NAME, "type": {"const": "prometheus"}, "access": {"enum": ["proxy", "direct"]}},
        url=TEXT,
        uid=UID,
        orgId=NUMBER,
        isDefault=YES_OR_NO,
        editable=YES_OR_NO,
        # of the data source for Prometheus
        jsonData=only({}, timeInterval=DURATION, httpMethod={"enum": ["GET", "POST"]}),
    ),
)
PROVIDERS = provisioning(
    "providers",
    only(
        {"name": NAME, "type": {"const": "file"}, "options": only({"path": TEXT})},
        orgId=NUMBER,
        folder=NAME,
        folderUid=UID,
        disableDeletion=YES_OR_NO,
        allowUiUpdates=YES_OR_NO,
        updateIntervalSeconds=NUMBER,
    ),
)
QUERY = only(
    {
        "refId": TEXT,
        "datasourceUid": TEXT,
        "model": {"type": "object", "required": ["refId", "datasource"]},
        "relativeTimeRange": only({"from": NUMBER, "to": NUMBER}),
    },
    queryType=TEXT,
)
RULE = only(
    {
        "uid": UID,
        "title": NAME,
        "condition": TEXT,
        "data": some(QUERY),
        "noDataState": {"enum": [*ON_TROUBLE, "NoData"]},
        "execErrState": {"enum": [*ON_TROUBLE, "Error"]},
        "for": DURATION,
    },
    labels=TEXTS_BY_NAME,
    annotations=TEXTS_BY_NAME,
    dashboardUid=UID,
    panelId=NUMBER,
    keepFiringFor=DURATION,
    isPaused=YES_OR_NO,
)
RULES = provisioning(
    "groups", only({"name": NAME, "folder": NAME, "interval": DURATION, "rules": some(RULE)}, orgId=NUMBER)
)
WEBHOOK = only(
    {
        "uid": UID,
        "type": {"const": "webhook"},
        "settings": only({"url": TEXT}, httpMethod={"enum": ["POST", "PUT"]}, maxAlerts=NUMBER),
    },
    disableResolveMessage=YES_OR_NO,
)
CONTACT_POINTS = provisioning("contactPoints", only({"name": NAME, "receivers": some(WEBHOOK)}, orgId=NUMBER))
POLICIES = provisioning(
    "policies",
    only(
        {"receiver": NAME},
        orgId=NUMBER,
        group_by=TEXTS,
        group_wait=DURATION,
        group_interval=DURATION,
        repeat_interval=DURATION,
    ),
)
SCHEMAS = {
    "datasources/prometheus.yaml": DATASOURCES,
    "dashboards/sifwatch.yaml": PROVIDERS,
    "alerting/rules.yaml": RULES,
    "alerting/contact-points.yaml": CONTACT_POINTS,
    "alerting/policies.yaml": POLICIES,
}


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


def parts(whole: Any, *, but: Collection[str]) -> Iterator[Any]:
    """``whole`` and all that is in it, but for what stands under those keys."""
    yield whole
    inner = [value for key, value in whole.items() if key not in but] if isinstance(whole, dict) else whole
    if isinstance(inner, list):
        for part in inner:
            yield from parts(part, but=but)


def test_every_file_is_where_grafana_looks_and_has_its_schema() -> None:
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()} == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_grafana_knows_every_key_and_value(name: str) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[name]).validate(read(name))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_key_with_a_slip_would_be_found(name: str) -> None:
    """In whatever object it stands; the models of queries and the labels are free."""
    validator = jsonschema.Draft202012Validator(SCHEMAS[name])
    body = read(name)
    closed = parts(body, but=("model", "labels", "annotations"))
    for place in [part for part in closed if isinstance(part, dict)]:
        place["slip"] = "x"
        assert not validator.is_valid(body), place
        del place["slip"]
    assert validator.is_valid(body)


def test_nothing_but_the_two_addresses_is_taken_from_the_environment() -> None:
    """Grafana expands a dollar in every text but the models of queries; annotations keep a plain one."""
    found = {
        part
        for name in SCHEMAS
        for part in parts(read(name), but=("model", "annotations"))
        if isinstance(part, str) and "$" in part
    }
    assert found == {"$PROMETHEUS_URL", "$SIF_ALERT_WEBHOOK_URL"}


def test_groups_are_evaluated_at_a_pace_that_grafana_keeps() -> None:
    """Its scheduler ticks every 10 s and refuses other intervals."""
    for group in read("alerting/rules.yaml")["groups"]:
        interval = _seconds(group["interval"])
        assert interval % 10 == 0
        assert all(_seconds(rule["for"]) % interval == 0 for rule in group["rules"])
        titles = [rule["title"] for rule in group["rules"]]
        assert len(set(titles)) == len(titles), "titles are unique in a folder"


def test_the_references_between_the_files_hold() -> None:
    points = {point["name"] for point in read("alerting/contact-points.yaml")["contactPoints"]}
    assert {policy["receiver"] for policy in read("alerting/policies.yaml")["policies"]} <= points
    sources = {source["uid"] for source in read("datasources/prometheus.yaml")["datasources"]}
    (provider,) = read("dashboards/sifwatch.yaml")["providers"]
    for group in read("alerting/rules.yaml")["groups"]:
        assert group["folder"] == provider["folder"]
        for rule in group["rules"]:
            steps = [step["refId"] for step in rule["data"]]
            assert len(set(steps)) == len(steps)
            assert rule["condition"] in steps
            for step in rule["data"]:
                assert step["datasourceUid"] in sources | {"__expr__"}
                assert step["model"]["refId"] == step["refId"]
                assert step["model"]["datasource"]["uid"] == step["datasourceUid"]


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]
