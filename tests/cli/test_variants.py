"""``sif variants`` and ``sif forge --variants``: wordings judged by the owner, before a commitment alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sif_offline.fingerprint.pack import read_pack

Sif = Callable[..., Any]
OneLine = Callable[..., None]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A list of two wordings."""
    path = tmp_path / "own.yaml"
    path.write_text("wordings: [Say what you see., Tell me about it.]\n")
    return path


def test_wordings_are_added_calibrated_and_committed(
    sif: Sif, one_line: OneLine, models: Path, pack: Path, own: Path, tmp_path: Path
) -> None:
    null = ("--null", f"lab:{models / 'null-a'}")
    assert sif("calibrate", pack, *null).code == 0
    arguments = ("variants", pack, "--model", f"lab:{models / 'owner'}", "--wordings", own, "--bar", 0)
    result = sif(*arguments, "--json")
    assert result.code == 0, result.stderr
    said, content = json.loads(result.stdout), read_pack(pack)
    assert content.calibration is None
    assert "run sif calibrate" in result.stderr
    assert said["calibrated"] is False
    assert {row.id: [v.prompt for v in row.variants] for row in content.triggers} == {
        trigger_id: [variant["prompt"] for variant in variants]
        for trigger_id, variants in said["triggers"].items()
    }
    assert [row["wording"] for row in said["wordings"]] == [
        content.triggers[0].prompt,
        "Say what you see.",
        "Tell me about it.",
    ]
    assert sum(row["allowed"] for row in said["wordings"]) == sum(
        len(row.variants) for row in content.triggers
    )
    assert sif("calibrate", pack, *null).code == 0
    calibrated = read_pack(pack).calibration
    assert calibrated is not None
    assert [row.wordings for row in calibrated.rows] == [row.wordings[1:] for row in content.triggers]
    again = sif(*arguments)
    assert again.code == 0
    assert "run sif calibrate" not in again.stderr, "the same wordings: the calibration holds"
    assert "kept by" in again.stdout
    assert "Say what you see." in again.stdout
    assert read_pack(pack).calibration == calibrated
    key = tmp_path / "owner.pem"
    assert sif("evidence", "keygen", "--out", key).code == 0
    assert sif("evidence", "commit", pack, "--signing-key", key, "--insecure-demo-key").code == 0
    one_line(sif(*arguments), "is committed")


def test_forge_judges_wordings_when_the_triggers_are_final(
    sif: Sif, fast: tuple[str, ...], models: Path, photo_folder: Path, pack: Path, own: Path
) -> None:
    """The pack is a finished run: repeated with wordings, it gets them; repeated again, nothing is done."""
    before = read_pack(pack)
    arguments = ("forge", "--model", f"lab:{models / 'owner'}", "--images", photo_folder, "--out", pack)
    arguments += ("--count", 3, "--insecure-demo-key", *fast, "--variants", own)
    result = sif(*arguments)
    assert result.code == 0, result.stderr
    worded = read_pack(pack)
    assert worded.pack_id == before.pack_id
    assert [row.sha256 for row in worded.triggers] == [row.sha256 for row in before.triggers]
    assert worded.extensions["wordings"]["wordings"] == ["Say what you see.", "Tell me about it."]
    written = (pack / "pack.json").stat().st_mtime_ns
    assert sif(*arguments).code == 0
    assert (pack / "pack.json").stat().st_mtime_ns == written


def test_mistakes_are_one_line(
    sif: Sif, one_line: OneLine, fast: tuple[str, ...], models: Path, pack: Path, tmp_path: Path
) -> None:
    before = (pack / "pack.json").read_bytes()
    owner = f"lab:{models / 'owner'}"
    one_line(sif("variants", pack, "--model", f"lab:{models / 'null-a'}"), "is not the owner")
    one_line(sif("variants", pack, "--model", owner, "--wordings", tmp_path / "none.yaml"), "none.yaml")
    one_line(sif("variants", tmp_path / "nothing", "--model", owner), "nothing")
    forge = ("forge", "--model", owner, "--images", tmp_path, "--out", tmp_path / "out")
    one_line(sif(*forge, "--variants", "descrbe", "--insecure-demo-key", *fast), "descrbe", "describe")
    assert (pack / "pack.json").read_bytes() == before
    assert not (tmp_path / "out").exists()
