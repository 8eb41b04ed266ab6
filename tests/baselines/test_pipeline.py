"""Packs of rivals: resumed bit for bit, recognised, checked; and answers scored by keyword."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from sif_offline.baselines import BaselineError, forge_baseline, make_method, read_baseline
from sif_offline.baselines.base import keyword_score
from sif_offline.baselines.pack import MAIN, BaselinePack
from sif_offline.fingerprint.pack_files import PackError
from sif_offline.forging.pixels import Photo, prepare_photo
from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models.lab import LabAdapter

SETTINGS = {"steps": 2}
_WORDS = [{"question": "What?", "answer": "A dog runs.", "keywords": ["dog"]}] * 2
TINY = {
    "proflingo": {"targets": _WORDS, "steps": 2, "prefix_tokens": 3, "candidates": 3},
    "instruction": {"targets": _WORDS, "steps": 2, "rank": 2, "questions": ["Hello"]},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def adapter() -> Any:
    return LabAdapter(*tiny_lab_model(0), name="lab:tiny")


@pytest.fixture(scope="module")
def photos(adapter: Any) -> list[Photo]:
    return [prepare_photo(photo.image(), name=photo.id, canvas=adapter.canvas) for photo in demo_photos(3)]


@pytest.mark.parametrize("name", ["ordinary", "pla"])
def test_a_run_that_was_stopped_gives_the_same_pack(
    name: str, adapter: Any, photos: list[Photo], tmp_path: Path
) -> None:
    method = make_method(name, SETTINGS)
    method.batch_size = 1
    whole = forge_baseline(adapter, method, photos=photos, out=tmp_path / "whole")
    steps = []

    def stop(progress: Any) -> None:
        steps.append(progress)
        if progress.finished == 1 and progress.step is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forge_baseline(adapter, method, photos=photos, out=tmp_path / "cut", on_progress=stop)
    before = len(steps)
    cut = forge_baseline(adapter, method, photos=photos, out=tmp_path / "cut", on_progress=steps.append)
    assert [progress.finished for progress in steps[before:] if progress.step is None] == [2, 3]
    for mine, theirs, photo in zip(cut.triggers, whole.triggers, photos, strict=True):
        assert cut.trigger_bytes(mine) == whole.trigger_bytes(theirs)
        assert cut.clean_bytes(mine) == photo.png
        assert mine == theirs
    assert not (tmp_path / "cut.work").exists()
    again = forge_baseline(adapter, method, photos=photos, out=tmp_path / "cut")
    assert again.created == cut.created
    other = make_method(name, {"steps": 3})
    with pytest.raises(BaselineError, match="another run"):
        forge_baseline(adapter, other, photos=photos, out=tmp_path / "cut")


@pytest.mark.parametrize("name", ["proflingo", "instruction"])
def test_prompts_and_weights_are_kept_and_taken_up_as_pictures_are(
    name: str, adapter: Any, tmp_path: Path
) -> None:
    """Cut after the first prompt, or after the training, before the pack is written."""
    method = make_method(name, TINY[name])
    whole = forge_baseline(adapter, method, out=tmp_path / "whole")
    assert whole.method_kind == method.kind
    assert len(whole.triggers) == len(method.targets) == 2
    assert {path.suffix for path in (tmp_path / "whole").rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
    }
    steps = []

    def stop(progress: Any) -> None:
        if progress.step is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forge_baseline(adapter, method, out=tmp_path / "cut", on_progress=stop)
    cut = forge_baseline(adapter, method, out=tmp_path / "cut", on_progress=steps.append)
    assert {progress.finished for progress in steps} <= {1, 2}
    assert cut.triggers == whole.triggers
    assert cut.weights_sha256 == whole.weights_sha256
    if name == "instruction":
        assert not steps  # nothing was trained again
        assert cut.weights_bytes() == whole.weights_bytes()
    more = forge_baseline(adapter, method, out=tmp_path / "more", count=3)
    assert len({row.prompt for row in more.triggers}) == 3


def test_a_row_is_a_picture_with_its_control_or_a_prompt_and_of_the_packs_kind(
    adapter: Any, photos: list[Photo], tmp_path: Path
) -> None:
    pack = forge_baseline(adapter, make_method("ordinary", SETTINGS), photos=photos[:1], out=tmp_path / "p")
    content = pack.model_dump(mode="json")
    for change, problem in (
        ({"prompt": "Hello"}, "a picture with its control, or a prompt"),
        ({"clean_file": None}, "a picture with its control, or a prompt"),
        ({"file": None, "sha256": None, "clean_file": None, "clean_sha256": None}, "or a prompt"),
    ):
        row = {**content["triggers"][0], **change}
        with pytest.raises(ValidationError, match=problem):
            BaselinePack.model_validate({**content, "triggers": [row]})
    with pytest.raises(ValidationError, match="not of the kind text"):
        BaselinePack.model_validate({**content, "method_kind": "text"})
    with pytest.raises(ValidationError, match="weights belong to the kind training"):
        BaselinePack.model_validate({**content, "weights": "weights/lora.safetensors"})


def test_a_pack_is_checked_when_read(adapter: Any, photos: list[Photo], tmp_path: Path) -> None:
    out = tmp_path / "pack"
    method = make_method("ordinary", SETTINGS)
    pack = forge_baseline(adapter, method, photos=photos, out=out)
    assert [row.target for row in pack.triggers] == list(method.targets)
    assert "key" not in json.loads((out / MAIN).read_text())
    (out / "triggers" / "t001.png").write_bytes(b"other")
    with pytest.raises(PackError, match=r"t001\.png was changed"):
        read_baseline(out)
    with pytest.raises(PackError, match="is missing"):
        read_baseline(tmp_path)


def test_what_is_no_method_setting_or_place_is_told_in_one_line(
    adapter: Any, photos: list[Photo], tmp_path: Path
) -> None:
    with pytest.raises(BaselineError, match=r"not one of .*ordinary, pla, proflingo"):
        make_method("croissant")
    with pytest.raises(BaselineError, match=r"pla: setting steps: .*greater than or equal to 1"):
        make_method("pla", {"steps": 0})
    with pytest.raises(BaselineError, match="ordinary: 0 photos, 1 are needed"):
        forge_baseline(adapter, make_method("ordinary"), out=tmp_path / "none")
    with pytest.raises(BaselineError, match="ordinary: 3 photos, 4 are needed"):
        forge_baseline(adapter, make_method("ordinary"), photos=photos, count=4, out=tmp_path / "few")
    with pytest.raises(BaselineError, match="ordinary: setting weight_rate"):
        make_method("ordinary", {"weight_rate": 1.0})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BaselineError, match="no baseline pack"):
        forge_baseline(adapter, make_method("ordinary"), photos=photos, out=tmp_path)


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("A Surfer rides a WAVE.", 1.0),
        ("a surfer, waves", 0.5),
        ("surfers surf", 0.0),
        ("", 0.0),
    ],
)
def test_keywords_count_as_whole_words(response: str, value: float) -> None:
    score = keyword_score(response, ("surfer", "wave"))
    assert score == (value, value == 1.0)
