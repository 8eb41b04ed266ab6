"""The Helm chart: linted, rendered by Helm itself, and validated against Kubernetes' own schemas."""

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway_plugin.service_config import read_service_configuration
from probes.config import ProbesConfig, load_config
from tests.deploy.tools import DEPLOY, found, passes

helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own
    kubernetes = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")

CHART = DEPLOY / "helm" / "sifwatch"
OLDEST = "1.25.0"
"""What Chart.yaml promises."""

POSTGRES = {
    "probes": {
        "replicas": 3,
        "store": {"type": "postgres", "postgres": {"host": "pg.data.svc", "existingSecret": "pg-password"}},
    }
}
EVERYTHING = {
    **POSTGRES,
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "sre"},
    "gateway": {"enabled": True, "image": {"repository": "sifwatch-gateway", "digest": "sha256:" + "0" * 64}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "grafanaDashboards": {"enabled": True},
    "networkPolicy": {"extraEgress": [{"ports": [{"port": 8000}]}]},
}
PACK_IN_A_SECRET = {"probes": {"pack": {"existingClaim": "", "existingSecret": "pack"}}}
PACK_IN_AN_IMAGE = {
    "probes": {"pack": {"existingClaim": "", "image": {"repository": "registry.example/pack", "tag": "1"}}}
}
BUNDLES: dict[str, Any] = {"probes": {"evidence": {"existingSecret": "evidence-key"}}}
FILES: dict[str, Any] = {
    "probes": {
        "files": [
            {
                "name": "authorities",
                "existingConfigMap": "my-ca",
                "items": [{"key": "ca.crt", "path": "ca.pem"}],
            },
            {"name": "keys", "existingSecret": "target-keys"},
            {"name": "targets", "existingConfigMap": "my-targets"},
        ],
        "config": {"targets": [], "targets_folder": "/srv/sifwatch/files/targets"},
    }
}
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "postgres": POSTGRES,
    "pack in a secret": PACK_IN_A_SECRET,
    "pack in an image": PACK_IN_AN_IMAGE,
    "bundles": BUNDLES,
    "files": FILES,
}
OF_THE_OPERATOR = {"ServiceMonitor", "PrometheusRule"}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Every manifest that ``helm install watch`` would send."""
    made = helm.Chart.load(str(CHART)).render(values, name="watch", namespace="sif")
    documents = [
        document
        for path, text in made.items()
        if not path.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document
    ]
    assert documents
    return documents


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def pods(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for document in documents:
        if document["kind"] == "Deployment":
            yield document["spec"]["template"]["spec"]
        elif document["kind"] == "Pod":
            yield document["spec"]


@pytest.fixture(params=SETS, ids=SETS)
def documents(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return rendered(SETS[request.param])


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_helm_lint_finds_nothing(values: dict[str, Any]) -> None:
    report = helm.lint(str(CHART), values, strict=True)
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []  # 1: an icon is recommended


@pytest.mark.parametrize("version", [OLDEST, kubernetes.latest_version()])
def test_kubernetes_accepts_every_manifest(documents: list[dict[str, Any]], version: str) -> None:
    checked = 0
    for document in documents:
        if document["kind"] not in OF_THE_OPERATOR:
            kubernetes.validate(document, version, strict=True)
            checked += 1
    assert checked >= 6


def test_every_pod_keeps_to_pod_security_restricted(documents: list[dict[str, Any]]) -> None:
    seen = 0
    for pod in pods(documents):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert not container["image"].endswith(":latest")
            assert re.search(r"[:@]", container["image"])
            seen += 1
        kinds = {key for volume in pod.get("volumes", ()) for key in volume} - {"name"}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
    assert seen >= 2


def test_every_mount_has_its_volume_and_none_lies_in_another(documents: list[dict[str, Any]]) -> None:
    for pod in pods(documents):
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        used = set()
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            mounts = container.get("volumeMounts", [])
            used |= {mount["name"] for mount in mounts}
            # /var/run is /run in the image
            paths = [Path(mount["mountPath"].replace("/var/run", "/run")) for mount in mounts]
            assert not [(a, b) for a in paths for b in paths if a in b.parents]
        assert used == volumes


def test_selectors_find_their_pods_and_no_others(documents: list[dict[str, Any]]) -> None:
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"]
        for name, one in of_kind(documents, "Deployment").items()
    }
    assert labels
    for kind, where in (
        ("Service", lambda one: one["spec"]["selector"]),
        ("PodDisruptionBudget", lambda one: one["spec"]["selector"]["matchLabels"]),
        ("NetworkPolicy", lambda one: one["spec"]["podSelector"]["matchLabels"]),
    ):
        made = of_kind(documents, kind)
        assert set(made) == set(labels), kind
        for name, one in made.items():
            assert [pod for pod, has in labels.items() if where(one).items() <= has.items()] == [name]


def test_no_secret_is_made_or_written_down(documents: list[dict[str, Any]]) -> None:
    assert not of_kind(documents, "Secret")
    for pod in pods(documents):
        for container in pod["containers"]:
            for variable in container.get("env", ()):
                assert "PASSWORD" not in variable["name"] or "valueFrom" in variable


def probes_config(documents: list[dict[str, Any]], folder: Path) -> ProbesConfig:
    """The ConfigMap's file as the probes read it."""
    path = folder / "probes.yaml"
    path.write_text(of_kind(documents, "ConfigMap")["watch-sifwatch-probes"]["data"]["probes.yaml"], "utf-8")
    return load_config(path)


def test_the_probes_read_their_configuration(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    config = probes_config(documents, tmp_path)
    (pod,) = (one for one in pods(documents) if one["containers"][0]["name"] == "probes")
    (container,) = pod["containers"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(config.pack) in mounts
    private = {one["name"]: one.get("value", "") for one in container["env"]}["PRIVATE_FILES"].split()
    assert {str(Path(path).parent) for path in private} <= mounts
    copies = [Path("/run/sifwatch") / Path(path).name for path in private]
    assert copies == [config.trigger_keys, *([config.evidence.signing_key] if config.evidence else [])]
    assert config.listen.port == container["ports"][0]["containerPort"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["livenessProbe"]["tcpSocket"] == {"port": "http"}, "a store that is away kills nobody"


def test_postgres_gets_its_password_from_a_secret(tmp_path: Path) -> None:
    documents = rendered(POSTGRES)
    assert (
        probes_config(documents, tmp_path).store
        == "postgresql+psycopg://sif@pg.data.svc:5432/sif?sslmode=require"
    )
    deployment = of_kind(documents, "Deployment")["watch-sifwatch-probes"]["spec"]
    assert deployment["replicas"] == 3
    assert deployment["strategy"]["type"] == "RollingUpdate"
    assert {
        "name": "PGPASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "pg-password", "key": "password"}},
    } in deployment["template"]["spec"]["containers"][0]["env"]
    assert not of_kind(documents, "PersistentVolumeClaim")
    ports = [
        port["port"]
        for rule in of_kind(documents, "NetworkPolicy")["watch-sifwatch-probes"]["spec"]["egress"]
        for port in rule["ports"]
    ]
    assert 5432 in ports


def test_sqlite_has_one_pod_whose_host_name_stays() -> None:
    documents = rendered({})
    deployment = of_kind(documents, "Deployment")["watch-sifwatch-probes"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    assert deployment["template"]["spec"]["hostname"] == "sif-probes"
    (claim,) = of_kind(documents, "PersistentVolumeClaim").values()
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_bundles_go_to_a_volume_that_outlives_the_release(tmp_path: Path) -> None:
    documents = rendered(BUNDLES)
    evidence = probes_config(documents, tmp_path).evidence
    assert evidence is not None
    claim = of_kind(documents, "PersistentVolumeClaim")["watch-sifwatch-evidence"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (pod,) = (one for one in pods(documents) if one["containers"][0]["name"] == "probes")
    (volume,) = (one for one in pod["volumes"] if "watch-sifwatch-evidence" in str(one))
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == volume["name"])
    assert (mount["mountPath"], mount.get("readOnly", False)) == (str(evidence.folder), False)

    own = rendered({"probes": {"evidence": {"existingSecret": "k", "volume": {"existingClaim": "mine"}}}})
    assert set(of_kind(own, "PersistentVolumeClaim")) == {"watch-sifwatch-probes"}
    assert "watch-sifwatch-evidence" not in str(own)
    shared = {"evidence": {"existingSecret": "k", "volume": {"accessMode": "ReadWriteMany"}}}
    several = rendered({"probes": {**POSTGRES["probes"], **shared}})
    (claim,) = of_kind(several, "PersistentVolumeClaim").values()
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_a_new_configuration_starts_new_pods() -> None:
    def checksum(values: dict[str, Any]) -> str:
        deployment = of_kind(rendered(values), "Deployment")["watch-sifwatch-probes"]["spec"]
        found: str = deployment["template"]["metadata"]["annotations"]["checksum/config"]
        return found

    assert checksum({}) == checksum({"probes": {"service": {"port": 80}}})
    assert checksum({}) != checksum({"probes": {"config": {"interval": "2h"}}})


def test_the_gateway_reads_its_configuration() -> None:
    documents = rendered({"gateway": {"enabled": True}})
    text = of_kind(documents, "ConfigMap")["watch-sifwatch-gateway"]["data"]["gateway-api.yaml"]
    read_service_configuration(text, name="gateway-api.yaml")
    shipped = yaml.safe_load((DEPLOY / "gateway-api.yaml").read_text("utf-8"))
    assert set(yaml.safe_load(text)) <= set(shipped)


def test_the_rules_and_dashboards_are_the_shipped_ones(tmp_path: Path) -> None:
    documents = rendered(EVERYTHING)
    (rule,) = of_kind(documents, "PrometheusRule").values()
    shipped = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "sif.yml").read_text("utf-8"))
    assert rule["spec"]["groups"] == shipped["groups"]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(rule["spec"]), "utf-8")
    passes(found("promtool", comes_with="Debian: apt install prometheus"), "check", "rules", path)
    boards = of_kind(documents, "ConfigMap")["watch-sifwatch-dashboards"]["data"]
    assert {name: json.loads(text) for name, text in boards.items()} == {
        f"sifwatch-{path.name}": json.loads(path.read_text("utf-8"))
        for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")
    }


def test_the_monitors_name_the_job_that_the_rules_ask_for() -> None:
    documents = rendered(EVERYTHING)
    monitors = of_kind(documents, "ServiceMonitor")
    services = of_kind(documents, "Service")
    assert set(monitors) == set(services)
    jobs = set()
    for name, monitor in monitors.items():
        assert (
            monitor["spec"]["selector"]["matchLabels"].items() <= services[name]["metadata"]["labels"].items()
        )
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in services[name]["spec"]["ports"]}
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        jobs |= {one["replacement"] for one in endpoint["relabelings"] if one.get("targetLabel") == "job"}
    assert "sif-probes" in jobs
    assert 'up{job="sif-probes"}' in (DEPLOY / "prometheus" / "rules" / "sif.yml").read_text("utf-8")


def test_the_notes_name_what_is_still_to_be_made() -> None:
    notes = helm.Chart.load(str(CHART)).render({}, name="watch", namespace="sif")[
        "sifwatch/templates/NOTES.txt"
    ]
    assert "evidence" not in notes
    for needed in ("Secret sifwatch-trigger-keys", "PersistentVolumeClaim sifwatch-pack", "helm test watch"):
        assert needed in notes
    assert "nobody told" in notes


def test_helm_test_asks_the_service() -> None:
    documents = rendered({})
    (pod,) = of_kind(documents, "Pod").values()
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    command = pod["spec"]["containers"][0]["args"]
    compile(command[2], "test", "exec")
    (service,) = of_kind(documents, "Service").values()
    assert command[3] == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"


TARGET = {"name": "a", "model": "m", "authorised_by": "Jane", "purpose": "check"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"porbes": {}}, "additional properties 'porbes' not allowed"),
        ({"probes": {"replicas": "two"}}, "'/probes/replicas': got string, want integer"),
        ({"probes": {"replicas": 2}}, "more than one needs probes.store.type: postgres"),
        ({"probes": {"store": {"type": "mysql"}}}, "/probes/store/type"),
        ({"probes": {"store": {"type": "postgres"}}}, "host and existingSecret are needed"),
        ({"probes": {"config": {"store": "sqlite:///x"}}}, "probes.config.store: the chart sets this itself"),
        ({"probes": {"config": {"targets": []}}}, "/probes/config/targets"),
        ({"probes": {"config": {"evidence": {}}}}, "probes.config.evidence: the chart sets this itself"),
        (
            {"probes": {"evidence": {"existingSecret": "k", "key": "pack.trigger-keys.json"}}},
            "probes.evidence.key: must differ from probes.triggerKeys.key",
        ),
        (
            {"probes": {**POSTGRES["probes"], **BUNDLES["probes"]}},
            "probes.evidence.volume: with several replicas it takes accessMode: ReadWriteMany",
        ),
        (
            {"probes": {"config": {"targets": [{**TARGET, "ca_file": "/etc/ssl/ca.pem"}]}}},
            "a: ca_file: /etc/ssl/ca.pem is not mounted",
        ),
        (
            {"probes": {"config": {"targets_folder": "/srv/sifwatch/files/nowhere"}}},
            "/srv/sifwatch/files/nowhere is not mounted",
        ),
        ({"probes": {"files": [{"name": "a"}]}}, "a: set one of existingSecret and existingConfigMap"),
        ({"probes": {"files": [{"name": "../a"}]}}, "/probes/files/0/name"),
        (
            {
                "probes": {
                    "files": [{"name": "a", "existingSecret": "s"}, {"name": "a", "existingSecret": "t"}]
                }
            },
            "probes.files: two have the same name",
        ),
        (
            {"probes": {"config": {"targets": [{"name": "a"}]}}},
            "missing properties 'authorised_by', 'purpose'",
        ),
        ({"probes": {"config": {"targets": [{**TARGET, "api_key": "sk"}]}}}, "a key is never written here"),
        ({"probes": {"config": {"interval": "hourly"}}}, "/probes/config/interval"),
        ({"probes": {"config": {"alpha": 0.5}}}, "/probes/config/alpha"),
        ({"probes": {"triggerKeys": {"existingSecret": ""}}}, "/probes/triggerKeys/existingSecret"),
        ({"probes": {"pack": {"existingSecret": "pack"}}}, "set exactly one of existingClaim"),
        ({"probes": {"image": {"digest": "sha256:1"}}}, "/probes/image/digest"),
        ({"serviceMonitor": {"interval": "1 minute"}}, "/serviceMonitor/interval"),
        ({"networkPolicy": {"egressPorts": [0]}}, "/networkPolicy/egressPorts/0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises((helm.HelmValuesError, helm.HelmRenderError), match=re.escape(message)):
        rendered(values)
