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
    assert "held out lab:" in result.stdout
    assert "times that of independent text" in result.stdout
    assert len(content.calibration.held_out) == 2
    digests = content.calibration.null_weights
    assert sorted(digests) == list(content.calibration.null_models)
    assert len(set(digests.values()) - {content.owner.weights_sha256}) == 2
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


def test_claims_that_the_null_models_cannot_carry_are_refused_before_they_run(
    sif: Sif, one_line: OneLine, models: Path, pack: Path
) -> None:
    arguments = ["calibrate", pack, "--null", f"lab:{models / 'null-a'}"]
    before = (pack / "pack.json").read_bytes()
    # a model that does not exist: the refusal comes first
    one_line(
        sif("calibrate", pack, "--null", "lab:nobody", "--claim-fmr", "0.01"),
        "1 null model",
        "below 1/2",
        "0.01 needs 99 null models",
    )
    one_line(sif(*arguments, "--alpha", "1.5"), "alpha 1.5")
    one_line(sif(*arguments, "--level", "0.4"), "level 0.4")
    assert (pack / "pack.json").read_bytes() == before
    claimed = sif(*arguments, "--claim-fmr", "0.5", "--alpha", "0.01", "--level", "0.9")
    assert claimed.code == 0, claimed.stderr
    assert "claimed of tau: a false-match rate of 0.5 per trigger" in claimed.stdout
    assert "with one null model it cannot be checked" in claimed.stdout
    content = read_pack(pack)
    assert content.calibration is not None
    assert content.calibration.claimed_fmr == 0.5
    assert content.calibration.rows[0].alpha == 0.01
    assert content.calibration.transfer.level == 0.9
