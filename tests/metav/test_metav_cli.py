"""``sif metav``: zoo, train, verify, evaluate."""

import json
from pathlib import Path

import numpy as np
import pytest

from sif_offline.fingerprint.metav.pack import MetaVPack, read_metav_pack
from sif_offline.metav.packing import answers_of, queries_of
from sif_offline.metav.presets import PRESETS, preset_settings
from sif_offline.metav.settings import metav_settings
from sif_offline.metav.zoo import Zoo, read_zoo

TINY = ("--train", 1, "--validation", 1, "--calibration", 2, "--test", 1)
FAST = ("--queries", 4, "--steps", 3, "--set", "hidden=4", "--views", "full,label")


@pytest.fixture
def tiny_zoo(sif, tmp_path: Path) -> Path:
    result = sif("metav", "zoo", "--out", tmp_path / "zoo", *TINY)
    assert result.code == 0, result.stderr
    return tmp_path / "zoo"


def test_from_zoo_to_evaluation(sif, tiny_zoo: Path, tmp_path: Path) -> None:
    told = json.loads(sif("metav", "zoo", "--out", tiny_zoo, *TINY, "--json").stdout)
    assert len(told["members"]) == len(read_zoo(tiny_zoo).members) == 1 + 2 + 2 + 3 + 2
    assert told["members"][0]["role"] == "owner"
    arguments = ["metav", "train", "--zoo", tiny_zoo, *FAST]
    result = sif(*arguments, "--out", tmp_path / "pack", "--json")
    assert result.code == 0, result.stderr
    told = json.loads(result.stdout)
    pack = read_metav_pack(tmp_path / "pack")
    assert (told["pack_id"], told["queries"], told["negatives"]) == (pack.pack_id, 4, 2)
    assert told["floor"] == pytest.approx(1 / 3)
    again = sif(*arguments, "--out", tmp_path / "pack.zip")
    assert f"pack {pack.pack_id}" in again.stdout
    assert "p is never below 0.333" in again.stdout
    result = sif("metav", "evaluate", tmp_path / "pack", "--zoo", tiny_zoo, "--view", "label", "--json")
    (view,) = json.loads(result.stdout)["views"]
    assert (view["view"], [row["stolen"] for row in view["suspects"]]) == ("label", [True, False])
    table = sif("metav", "evaluate", tmp_path / "pack", "--zoo", tiny_zoo).stdout
    assert all(word in table for word in ("ARUC", "ROC-AUC", "rounded-2", "extract"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_and_its_settings_can_be_changed(sif, zoo: Zoo, tmp_path: Path, preset: str) -> None:
    options = ("--preset", preset, "--queries", 4, "--steps", 2)
    result = sif("metav", "train", "--zoo", zoo.folder, "--out", tmp_path / "pack", *options, "--json")
    assert result.code == 0, result.stderr
    pack = read_metav_pack(tmp_path / "pack")
    used = metav_settings(pack.forge["settings"])
    wanted = preset_settings(preset, {"queries": 4, "steps": 2}).for_outputs("probabilities")
    assert used == wanted
    assert set(pack.held_out.negatives) == set(wanted.scored_views)
    assert max(np.ptp(scores) for scores in pack.held_out.negatives.values()) > 0


def test_a_thief_is_found_and_a_stranger_is_not(sif, zoo: Zoo, pack_path: Path, pack: MetaVPack) -> None:
    def verify(*arguments: object) -> dict:
        result = sif("metav", "verify", pack_path, *arguments, "--json")
        assert (result.code, result.stderr) == (0, "")
        return json.loads(result.stdout)

    told = verify("--zoo", zoo.folder, "--member", "owner")
    assert (told["verdict"], told["pvalue"], told["floor"]) == ("suspicious", 0.05, 0.05)
    assert told["log_odds"] > 0
    for view in ("label", "rounded-1"):
        member = ("--zoo", zoo.folder, "--member", "train-positive-001-finetune-all")
        told = verify(*member, "--view", view, "--alpha", 0.05)
        assert (told["verdict"], told["view"]) == ("confirmed", view)
    assert verify("--zoo", zoo.folder, "--member", "owner", "--alpha", 0.01)["verdict"] == "suspicious"
    strangers = zoo.of("test", "negative")
    verdicts = [verify("--model", zoo.folder / row.file)["verdict"] for row in strangers[:5]]
    assert verdicts.count("none") >= 4  # each is falsely accused with probability .05


def test_answers_that_were_recorded_score_as_the_model_does(
    sif, zoo: Zoo, pack_path: Path, pack: MetaVPack, tmp_path: Path
) -> None:
    answers = answers_of([zoo.model(zoo.named("owner"))], queries_of(pack))[0]
    np.save(tmp_path / "answers.npy", answers)
    recorded = sif("metav", "verify", pack_path, "--answers", tmp_path / "answers.npy", "--json")
    local = sif("metav", "verify", pack_path, "--zoo", zoo.folder, "--member", "owner", "--json")
    assert json.loads(recorded.stdout)["log_odds"] == json.loads(local.stdout)["log_odds"]
    words = sif("metav", "verify", pack_path, "--answers", tmp_path / "answers.npy", "--alpha", 0.001)
    assert "so few models can never confirm at alpha 0.001" in words.stdout
    assert "suspicious" in words.stdout


def test_mistakes_are_one_line(sif, one_line, zoo: Zoo, pack_path: Path, tmp_path: Path) -> None:
    suspect = ("--zoo", zoo.folder, "--member", "owner")
    one_line(sif("metav", "verify", pack_path), "--answers FILE")
    one_line(sif("metav", "verify", pack_path, "--zoo", zoo.folder), "--member NAME")
    one_line(sif("metav", "verify", pack_path, *suspect, "--model", "x"), "one of --model")
    one_line(sif("metav", "verify", pack_path, "--zoo", zoo.folder, "--member", "x"), "no member 'x'")
    one_line(sif("metav", "verify", pack_path, *suspect, "--view", "blurred"), "blurred", "only full")
    one_line(sif("metav", "verify", tmp_path / "none", *suspect), "no such pack")
    one_line(sif("metav", "verify", pack_path, "--model", tmp_path / "none"), "none", "cannot be read")
    for name, data in (("text.npy", b"text"), ("pickle.npy", b"\x80\x04N."), ("empty.npy", b"")):
        (tmp_path / name).write_bytes(data)
        one_line(sif("metav", "verify", pack_path, "--answers", tmp_path / name), name, "no array")
    np.save(tmp_path / "words.npy", np.array(["a"]))
    one_line(sif("metav", "verify", pack_path, "--answers", tmp_path / "words.npy"), "no array")
    np.save(tmp_path / "short.npy", np.zeros((3, 10)))
    one_line(sif("metav", "verify", pack_path, "--answers", tmp_path / "short.npy"), "60 x 10")
    one_line(sif("metav", "verify", pack_path, "--answers", tmp_path), "irectory")
    one_line(sif("metav", "zoo", "--out", tmp_path / "zoo", "--task", "letters"), "digits")
    one_line(sif("metav", "zoo", "--out", tmp_path / "zoo", "--executor", "cloud"), "cloud")
    one_line(sif("metav", "zoo", "--out", tmp_path / "text.npy"), "text.npy")
    train = ("metav", "train", "--zoo", zoo.folder)
    one_line(sif("metav", "train", "--zoo", tmp_path, "--out", tmp_path / "p"), "sif metav zoo")
    one_line(sif(*train, "--out", tmp_path), "exists already")
    one_line(sif(*train, "--out", tmp_path / "p", "--set", "steps"), "NAME=VALUE")
    one_line(sif(*train, "--out", tmp_path / "p", "--set", "rate=1"), "rate")
    one_line(sif(*train, "--out", tmp_path / "p", "--preset", "best"), "best", "matched-filter")
    one_line(sif("metav", "evaluate", pack_path, "--zoo", tmp_path), "sif metav zoo")
    assert not (tmp_path / "p").exists()
