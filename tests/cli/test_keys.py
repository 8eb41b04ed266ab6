"""``sif keys``: secrets on disk are private, derived keys fit the pack, a mistake is one line."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from sif_offline.cli import keys as command
from sif_offline.fingerprint.errors import one_line_errors
from sif_offline.fingerprint.keys import (
    DEMO_SECRET,
    MasterSecret,
    TriggerKeys,
    derive_pack_keys,
    derive_trigger_key,
    key_commitment,
    read_key_file,
    write_key_file,
)
from sif_offline.fingerprint.pack import Decoding, FingerprintPack, Owner, TriggerRow, write_pack


def sif_keys(*arguments: object) -> int:
    """Run the command as ``sif`` does; its exit code."""
    try:
        with one_line_errors():
            typer.main.get_command(command.app).main([str(a) for a in arguments], standalone_mode=True)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def pack(tmp_path: Path) -> FingerprintPack:
    """A pack of one trigger, forged under the demo secret."""
    weights = digest(b"weights")
    key = derive_trigger_key(DEMO_SECRET, owner="test:owner", model_hash=weights, trigger_id="t00")
    files = {"tokenizer.json": b"{}", "triggers/t00.png": b"trigger", "clean/t00.png": b"clean"}
    row = TriggerRow(
        id="t00",
        file="triggers/t00.png",
        sha256=digest(b"trigger"),
        clean_file="clean/t00.png",
        clean_sha256=digest(b"clean"),
        prompt="Describe it.",
        epsilon=16,
        expected_green_share=0.7,
        key_commitment=key_commitment("t00", key),
    )
    content = FingerprintPack(
        pack_id="demo",
        owner=Owner(id="test:owner", weights_sha256=weights),
        vocab_size=64,
        tokenizer_sha256=digest(b"{}"),
        scheme="unigram-philox-v1",
        gamma=0.5,
        decoding=Decoding(max_new_tokens=10),
        triggers=(row,),
        created=datetime(2026, 1, 2, tzinfo=UTC),
        demo_key=True,
    )
    return write_pack(tmp_path / "pack", content, files)


def test_new_makes_a_private_secret_and_does_not_show_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "master.key"
    assert sif_keys("new", "--out", out) == 0
    secret = read_key_file(out)
    assert not secret.is_demo
    assert out.stat().st_mode & 0o777 == 0o600
    shown = capsys.readouterr()
    assert str(out) in shown.out
    assert secret.reveal().hex()[:12] not in shown.out + shown.err


def test_new_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "master.key"
    write_key_file(out, DEMO_SECRET)
    assert sif_keys("new", "--out", out) == 2
    assert capsys.readouterr().err == f"error: {out}: exists already; a key file is never overwritten\n"
    assert read_key_file(out) == DEMO_SECRET


def test_the_demo_secret_has_to_be_asked_for(tmp_path: Path) -> None:
    assert sif_keys("new", "--out", tmp_path / "demo.key", "--insecure-demo-key") == 0
    assert read_key_file(tmp_path / "demo.key").is_demo


def test_derive_writes_the_packs_keys_alone(tmp_path: Path, pack: FingerprintPack) -> None:
    write_key_file(tmp_path / "master.key", DEMO_SECRET)
    out = tmp_path / "pack.keys"
    assert (
        sif_keys("derive", "--pack", tmp_path / "pack", "--key-file", tmp_path / "master.key", "--out", out)
        == 0
    )
    assert TriggerKeys.read(out) == derive_pack_keys(DEMO_SECRET, pack)
    assert out.stat().st_mode & 0o777 == 0o600
    assert DEMO_SECRET.reveal().hex() not in out.read_text()


def test_derive_with_a_wrong_key_writes_nothing(
    tmp_path: Path, pack: FingerprintPack, capsys: pytest.CaptureFixture[str]
) -> None:
    write_key_file(tmp_path / "other.key", MasterSecret.generate())
    out = tmp_path / "pack.keys"
    assert (
        sif_keys("derive", "--pack", tmp_path / "pack", "--key-file", tmp_path / "other.key", "--out", out)
        == 2
    )
    assert capsys.readouterr().err == "error: pack demo: wrong key for trigger t00\n"
    assert not out.exists()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("mode", "master.key: mode 0644 lets others read the key; chmod 600 it"),
        ("text", "master.key: not a master key"),
        ("absent", "master.key: No such file or directory"),
        ("pack", "triggers/t00.png was changed"),
    ],
)
def test_derive_from_bad_files(
    tmp_path: Path, pack: FingerprintPack, capsys: pytest.CaptureFixture[str], broken: str, message: str
) -> None:
    master = tmp_path / "master.key"
    write_key_file(master, DEMO_SECRET)
    if broken == "mode":
        master.chmod(0o644)
    elif broken == "text":
        master.write_text("hello")
    elif broken == "absent":
        master.unlink()
    else:
        (tmp_path / "pack" / "triggers" / "t00.png").write_bytes(b"Trigger")
    out = tmp_path / "pack.keys"
    assert sif_keys("derive", "--pack", tmp_path / "pack", "--key-file", master, "--out", out) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_machines_are_told_where_the_keys_are_and_not_what_they_are(
    sif: Callable[..., Any], forged: Path, tmp_path: Path
) -> None:
    master, derived = tmp_path / "demo.key", tmp_path / "trigger-keys.json"
    made = sif("keys", "new", "--insecure-demo-key", "--out", master, "--json")
    assert json.loads(made.stdout) == {"key_file": str(master)}
    told = json.loads(
        sif("keys", "derive", "--pack", forged, "--key-file", master, "--out", derived, "--json").stdout
    )
    assert told["trigger_keys"] == str(derived)
    assert told["triggers"] == ["t000", "t001", "t002"]
    secrets = json.loads(derived.read_text())["keys"].values()
    assert all(secret not in json.dumps(told) for secret in secrets)
