"""``sif calibrate``: rows and the transfer bound, all or nothing, and the truth about few null models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sif_offline.fingerprint.keys import MasterSecret, write_key_file
from sif_offline.fingerprint.pack import read_pack

Sif = Callable[..., Any]
OneLine = Callable[..., None]


def test_calibrate_writes_rows_and_says_the_small_n_truth(sif: Sif, models: Path, pack: Path) -> None:
    before = {path.name: path.read_bytes() for path in pack.rglob("*.png")}
    arguments = ["calibrate", pack]
    for name in ("null-a", "null-b"):
        arguments += ["--null", f"lab:{models / name}"]
    result = sif(*arguments)
    assert result.code == 0, result.stderr
    assert "1/3 test" in result.stdout
    content = read_pack(pack)
    assert content.calibration is not None
    assert [row.trigger_id for row in content.calibration.rows] == [row.id for row in content.triggers]
    assert len(content.calibration.null_models) == 2
    assert {path.name: path.read_bytes() for path in pack.rglob("*.png")} == before
    as_json = sif(*arguments, "--json")
    assert json.loads(as_json.stdout) == content.calibration.model_dump(mode="json")


def test_calibrations_that_are_refused(
    sif: Sif, one_line: OneLine, models: Path, pack: Path, tmp_path: Path
) -> None:
    null = f"lab:{models / 'null-a'}"
    before = (pack / "pack.json").read_bytes()
    one_line(sif("calibrate", pack, "--null", null, "--null", null), "same weights")
    one_line(sif("calibrate", pack, "--null", f"lab:{models / 'owner'}"), "is the owner")
    one_line(sif("calibrate", pack, "--null", "lab:nobody"), "lab:nobody")
    one_line(sif("calibrate", tmp_path / "nothing", "--null", null), "nothing")
    wrong = tmp_path / "wrong.key"
    write_key_file(wrong, MasterSecret.from_bytes(bytes(32)))
    one_line(sif("calibrate", pack, "--null", null, "--key-file", wrong), "wrong key")
    assert (pack / "pack.json").read_bytes() == before
