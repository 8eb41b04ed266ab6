"""Packs written and updated: all or nothing, and nothing twice."""

import os
from pathlib import Path

import pytest

from sif_offline.fingerprint import pack_files
from sif_offline.fingerprint.calibration import calibrate
from sif_offline.fingerprint.pack import (
    FingerprintPack,
    PackError,
    attach_commitment,
    read_pack,
    update_pack,
    write_pack,
)
from sif_offline.fingerprint.scoring import ResponseScore
from tests.fingerprint.conftest import Parts, snapshot


def test_a_pack_is_never_overwritten(pack_path: Path, pack_parts: Parts) -> None:
    with pytest.raises(PackError, match="exists already"):
        write_pack(pack_path, *pack_parts)


def test_files_must_match_their_rows(tmp_path: Path, pack_parts: Parts) -> None:
    pack, files = pack_parts
    for bad in ({k: v for k, v in files.items() if k != "clean/t00.png"}, {**files, "clean/t00.png": b"x"}):
        with pytest.raises(ValueError, match=r"clean/t00\.png is missing or does not match"):
            write_pack(tmp_path / "pack", pack, bad)
    with pytest.raises(ValueError, match="does not belong"):
        write_pack(tmp_path / "pack", pack, {**files, "../x": b""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["pack", "pack.zip"])
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, pack_parts: Parts, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls = iter(range(100))

    def full_disk(descriptor: int) -> None:
        if name.endswith("zip") or next(calls) == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(PackError, match=f"{name}: cannot be written .No space left"):
        write_pack(tmp_path / name, *pack_parts)
    assert list(tmp_path.iterdir()) == []


def calibration_of(pack: FingerprintPack):
    scores = {
        row.id: ResponseScore.from_counts(
            greens=15, types=30, vocab_size=pack.vocab_size, green_size=pack.green_size, trigger_id=row.id
        )
        for row in pack.triggers
    }
    return calibrate({"innocent-a": scores, "innocent-b": scores})


def test_update_keeps_every_other_byte(pack_path: Path, pack_parts: Parts) -> None:
    pack, files = pack_parts
    updated = update_pack(pack_path, calibration=calibration_of(pack))
    assert updated.calibration == calibration_of(pack)
    assert updated == read_pack(pack_path)
    assert updated.model_copy(update={"calibration": None}).model_dump() == pack.model_dump()
    assert all(updated.trigger_bytes(row) == files[row.file] for row in updated.triggers)
    assert [entry.name for entry in pack_path.parent.iterdir()] == [pack_path.name], "nothing left beside it"


@pytest.mark.parametrize("step", [1, 2])
def test_an_update_that_fails_leaves_the_old_pack(
    pack_dir: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before, calls, real = snapshot(pack_dir), iter(range(1, 100)), os.replace

    def failing(source: object, target: object) -> None:
        if next(calls) == step:
            raise OSError(5, "Input/output error")
        real(source, target)

    pack = read_pack(pack_dir)
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(PackError, match="Input/output error"):
        update_pack(pack_dir, calibration=calibration_of(pack))
    assert snapshot(pack_dir) == before
    assert [entry.name for entry in pack_dir.parent.iterdir()] == [pack_dir.name]


def test_update_refuses_a_pack_that_was_changed(pack_dir: Path) -> None:
    pack = read_pack(pack_dir)
    (pack_dir / "clean" / "t00.png").write_bytes(b"x")
    with pytest.raises(PackError, match=r"clean/t00\.png"):
        update_pack(pack_dir, calibration=calibration_of(pack))


def test_an_update_killed_between_its_renames_says_where_the_pack_is(
    pack_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def killed(source: object, target: object) -> None:
        real(source, target)
        if "old-" in str(target):
            raise SystemExit("kill -9")  # no handler of ours runs

    pack, before = read_pack(pack_dir), snapshot(pack_dir)
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        update_pack(pack_dir, calibration=calibration_of(pack))
    monkeypatch.undo()
    with pytest.raises(PackError, match="an update was cut short and the old pack is in") as caught:
        read_pack(pack_dir)
    retired = Path(str(caught.value).partition("old pack is in ")[2].partition(":")[0])
    retired.rename(pack_dir)
    assert snapshot(pack_dir) == before


def test_a_committed_pack_is_neither_calibrated_nor_committed_again(pack_dir: Path) -> None:
    pack = attach_commitment(pack_dir, b"{}")
    assert pack.commitment_json() == b"{}"
    with pytest.raises(PackError, match="is committed"):
        update_pack(pack_dir, calibration=calibration_of(pack))
    with pytest.raises(PackError, match="second chance"):
        attach_commitment(pack_dir, b"{}")
    assert read_pack(pack_dir).commitment_json() == b"{}"


def test_nothing_too_large_to_be_read_again_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_files, "MAX_FILE_BYTES", 100)
    with pytest.raises(PackError, match=r"transcript\.jsonl would be over the limit"):
        pack_files.write_new(tmp_path / "bundle", {"bundle.json": b"{}", "transcript.jsonl": bytes(101)})
    assert list(tmp_path.iterdir()) == []
