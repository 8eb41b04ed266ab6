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
    read_key_ring,
    rotate_key_file,
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


def test_rotate_and_show_name_generations_without_giving_them_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    master = tmp_path / "master.key"
    assert sif_keys("new", "--out", master) == 0
    old = read_key_file(master)
    assert sif_keys("rotate", "--key-file", master) == 0
    new = read_key_file(master)
    assert new != old
    capsys.readouterr()
    assert sif_keys("show", "--key-file", master) == 0
    shown = capsys.readouterr().out
    assert shown == f"1  {new.fingerprint}  current\n2  {old.fingerprint}\n"
    assert sif_keys("rotate", "--key-file", master, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    ring = read_key_ring(master)
    assert told == {
        "key_file": str(master),
        "generations": 3,
        "fingerprint": ring.current.fingerprint,
    }
    for secret in ring.generations:
        assert secret.reveal().hex()[:12] not in shown + json.dumps(told)


def test_rotate_refuses_the_demo_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    master = tmp_path / "demo.key"
    write_key_file(master, DEMO_SECRET)
    before = master.read_bytes()
    assert sif_keys("rotate", "--key-file", master) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {master}: holds the published demo secret")
    assert error.count("\n") == 1
    assert master.read_bytes() == before


def test_show_says_which_generation_opens_a_pack(
    tmp_path: Path,
    pack: FingerprintPack,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    newer = MasterSecret.generate()
    content = f"sif-master-v1:{newer.reveal().hex()}\nsif-master-v1:{DEMO_SECRET.reveal().hex()}\n"
    master = tmp_path / "master.key"
    master.write_text(content)
    master.chmod(0o600)
    assert sif_keys("show", "--key-file", master, "--pack", tmp_path / "pack", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "pack_id": "demo",
        "generations": [
            {"fingerprint": newer.fingerprint, "current": True, "demo": False, "opens_pack": False},
            {"fingerprint": DEMO_SECRET.fingerprint, "current": False, "demo": True, "opens_pack": True},
        ],
    }
    monkeypatch.setenv("SIF_MASTER_KEY", content)
    assert sif_keys("show", "--pack", tmp_path / "pack") == 0
    assert capsys.readouterr().out.endswith("the published demo secret, opens pack demo\n")
    monkeypatch.setenv("SIF_MASTER_KEY", content.splitlines()[0])
    assert sif_keys("show", "--pack", tmp_path / "pack") == 0
    assert capsys.readouterr().out.endswith("no generation opens pack demo\n")
    monkeypatch.delenv("SIF_MASTER_KEY")
    assert sif_keys("show") == 2
    assert capsys.readouterr().err == "error: no key: give --key-file or set SIF_MASTER_KEY\n"


def test_a_pack_of_an_older_generation_is_still_scored(
    sif: Callable[..., Any], tmp_path: Path, photo_folder: Path, models: Path, fast: tuple[str, ...]
) -> None:
    """Forge, rotate, forge again: the newer pack is under the newer generation, the older one still opens."""
    master = tmp_path / "master.key"
    assert sif_keys("new", "--out", master) == 0
    forge = ["forge", "--model", f"lab:{models / 'owner'}", "--images", photo_folder, "--count", "1"]
    for name in ("old", "new"):
        done = sif(*forge, "--out", tmp_path / name, "--key-file", master, *fast)
        assert done.code == 0, done.stderr
        if name == "old":
            rotate_key_file(master)
    for name, generation in (("old", 1), ("new", 0)):
        told = json.loads(
            sif("keys", "show", "--key-file", master, "--pack", tmp_path / name, "--json").stdout
        )
        assert [row["opens_pack"] for row in told["generations"]].index(True) == generation
        calibrated = sif(
            "calibrate", tmp_path / name, "--null", f"lab:{models / 'null-a'}", "--key-file", master
        )
        assert calibrated.code == 0, calibrated.stderr


def test_derive_some_triggers_alone(sif: Callable[..., Any], forged: Path, tmp_path: Path) -> None:
    master, derived = tmp_path / "demo.key", tmp_path / "trigger-keys.json"
    write_key_file(master, DEMO_SECRET)
    arguments = ("keys", "derive", "--pack", forged, "--key-file", master, "--out", derived)
    told = json.loads(sif(*arguments, "--triggers", "t002,t000", "--json").stdout)
    assert told["triggers"] == ["t002", "t000"]
    assert set(TriggerKeys.read(derived).keys) == {"t000", "t002"}
    derived.unlink()
    refused = sif(*arguments, "--triggers", "t000,t009")
    assert refused.code == 2
    assert refused.stderr.endswith("no key for trigger t009\n")
    assert not derived.exists()
