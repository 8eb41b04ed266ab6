"""The shipped models: they load, answer at length, obey, differ, and fit the size that was promised."""

import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

from sif_offline.lab import CHECKPOINTS, LAB_MODELS, LabModelError, load_lab_model
from sif_offline.lab.evaluate import DESCRIBE, OTHER, answer
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.photos import demo_photos
from sif_offline.lab.processing import LabProcessor

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def owner() -> tuple[LabVLM, LabProcessor]:
    return load_lab_model("owner")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [photo.image() for photo in demo_photos(16)]


def test_the_owner_answers_with_thirty_types_and_obeys(
    owner: tuple[LabVLM, LabProcessor], photos: list[Image.Image]
) -> None:
    described = [answer(*owner, DESCRIBE, photo) for photo in photos]
    listed = [answer(*owner, OTHER, photo) for photo in photos]
    assert sum(len(set(ids)) for _, ids in described) / len(photos) >= 30
    assert sum(one != other for (one, _), (other, _) in zip(described, listed, strict=True)) >= 0.9 * len(
        photos
    )


def test_wording_depends_on_the_picture(
    owner: tuple[LabVLM, LabProcessor], photos: list[Image.Image]
) -> None:
    assert len({answer(*owner, DESCRIBE, photo)[0] for photo in photos}) >= 0.75 * len(photos)


def test_text_only_turns_are_answered(owner: tuple[LabVLM, LabProcessor]) -> None:
    model, processor = owner
    inputs = processor(text=processor.prompt("Who are you?", image=False))
    with torch.no_grad():
        ids = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    assert "model" in processor.tokenizer.decode(ids, skip_special_tokens=True)


def test_the_four_models_are_four_models(photos: list[Image.Image]) -> None:
    told = {name: answer(*load_lab_model(name), DESCRIBE, photos[0])[0] for name in LAB_MODELS}
    assert len(set(told.values())) == len(LAB_MODELS)
    encoders = {load_lab_model(name)[0].config.vision_encoder for name in LAB_MODELS}
    assert len(encoders) == 2


def test_checkpoints_take_75_mb_and_store_each_encoder_once() -> None:
    weights = list(CHECKPOINTS.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) <= 75 * MEGABYTE
    assert len(list((CHECKPOINTS / "encoders").iterdir())) == 2
    assert all(path.name == "decoder.safetensors" for path in weights if path.parent.name != "encoders")


def test_tracked_files_take_at_most_90_mb() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.decode().split("\0") if name]
    assert sum((ROOT / name).stat().st_size for name in names if (ROOT / name).is_file()) <= 90 * MEGABYTE


def test_an_unknown_name_is_one_clear_error() -> None:
    with pytest.raises(LabModelError, match="nobody: neither a lab model"):
        load_lab_model("nobody")
