"""The systemd unit: read by systemd's own tools, and its promises to the probes."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from probes.config import load_config
from sif_offline.fingerprint.evidence.signing import SigningKey
from tests.deploy.tools import DEPLOY, found, passes, with_the_comment

DROP_INS = DEPLOY / "systemd" / "sif-probes.service.d"
UNIT = DEPLOY / "systemd" / "sif-probes.service"
WITH = "Debian: apt install systemd"


def settings(file: Path = UNIT) -> dict[str, list[str]]:
    """Every key of the unit with its values, in order."""
    made: dict[str, list[str]] = {}
    for line in file.read_text("utf-8").splitlines():
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
    shutil.copytree(DROP_INS, tmp_path / DROP_INS.name)
    tool = found("systemd-analyze", comes_with=WITH)
    done = subprocess.run([tool, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with (tmp_path / DROP_INS.name / "evidence.conf").open("a") as file:
        file.write("LoadCredentials=x:/y\n")
    done = subprocess.run([tool, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    assert "LoadCredentials" in done.stderr, "it does not read the drop-ins"


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


def test_the_drop_in_gives_the_service_a_signing_key_that_it_reads(tmp_path: Path) -> None:
    """Its own command, on a credential with the mode that an ACL for the service's user shows."""
    drop_in = settings(DROP_INS / "evidence.conf")
    config = load_config(with_the_comment(DEPLOY / "systemd" / "probes.yaml", "evidence:", tmp_path))
    assert config.evidence is not None
    credential, _, source = drop_in["LoadCredential"][0].partition(":")
    assert source.startswith("/etc/sifwatch/")
    command = shlex.split(drop_in["ExecStartPre"][0])
    assert command[-2:] == [f"%d/{credential}", str(config.evidence.signing_key)]
    key = SigningKey.generate()
    key.write(tmp_path / credential)
    (tmp_path / credential).chmod(0o440)
    passes(*command[:-2], tmp_path / credential, tmp_path / "copy")
    assert SigningKey.read(tmp_path / "copy").public == key.public
    state = f"/var/lib/{settings()['StateDirectory'][0]}"
    assert str(config.evidence.folder.parent) == state


def test_a_targets_key_is_the_credential_of_its_drop_in(tmp_path: Path) -> None:
    credential, _, folder = settings(DROP_INS / "target-keys.conf")["LoadCredential"][0].partition(":")
    assert folder.startswith("/etc/sifwatch/")
    text = (DEPLOY / "systemd" / "probes.yaml").read_text("utf-8")
    named = f"/run/credentials/{UNIT.name}/{credential}_example-suspect"
    assert f"# api_key_file: {named}\n" in text


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
