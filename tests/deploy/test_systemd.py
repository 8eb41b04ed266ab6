"""The systemd unit: read by systemd's own tools, and its promises to the probes."""

import shlex
from pathlib import Path

import pytest

from probes.config import load_config
from tests.deploy.tools import DEPLOY, found, passes

UNIT = DEPLOY / "systemd" / "sif-probes.service"
WITH = "Debian: apt install systemd"


def settings() -> dict[str, list[str]]:
    """Every key of the unit with its values, in order."""
    made: dict[str, list[str]] = {}
    for line in UNIT.read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            made.setdefault(key, []).append(value)
    return made


def test_systemd_knows_every_setting(tmp_path: Path) -> None:
    program = settings()["ExecStart"][0].split()[0]
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text("utf-8").replace(program, "/bin/true"), "utf-8"
    )  # it is not installed here
    tool = found("systemd-analyze", comes_with=WITH)
    assert passes(tool, "verify", "--man=no", unit) == ""


def test_systemd_rates_the_exposure_as_low() -> None:
    """0 to 10, here in tenths: above 2.0 the unit has lost some of its locks."""
    passes(found("systemd-analyze", comes_with=WITH), "security", "--offline=true", "--threshold=20", UNIT)


def test_the_user_of_the_unit_is_made() -> None:
    users = (DEPLOY / "systemd" / "sif-probes.sysusers.conf").read_text("utf-8")
    kind, name, *_ = shlex.split(users.splitlines()[-1])
    assert (kind, [name], [name]) == ("u", settings()["User"], settings()["Group"])


def test_a_mistake_in_the_configuration_is_not_tried_again() -> None:
    unit = settings()
    assert unit["Restart"] == ["on-failure"]
    assert "2" in unit["RestartPreventExitStatus"][0].split()  # every ConfigError's exit code
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_the_unit_and_its_configuration_name_the_same_files() -> None:
    unit = settings()
    config = load_config(DEPLOY / "systemd" / "probes.yaml")
    start = shlex.split(unit["ExecStart"][0])
    assert start[-1] == "/etc/sifwatch/probes.yaml"
    copy = shlex.split(unit["ExecStartPre"][0])
    assert copy[1] == "--mode=0600"
    assert str(config.trigger_keys) == copy[-1]
    assert copy[-1].startswith(f"/run/{unit['RuntimeDirectory'][0]}/")
    credential, _, source = unit["LoadCredential"][0].partition(":")
    assert copy[-2] == f"%d/{credential}"
    assert source.startswith("/etc/sifwatch/")
    assert config.store.startswith(f"sqlite:////var/lib/{unit['StateDirectory'][0]}/")


@pytest.mark.parametrize(
    "lock",
    [
        *(
            "User=sif-probes",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=yes",
        ),
        *("CapabilityBoundingSet=", "SystemCallFilter=@system-service", "MemoryDenyWriteExecute=yes"),
    ],
)
def test_the_unit_is_locked_down(lock: str) -> None:
    assert lock in UNIT.read_text("utf-8").splitlines()
