"""``sif models``: the list, and the check of one model on photos of odd sizes."""

import json
from pathlib import Path

import pytest
from PIL import Image
from transformers.utils import logging

from sif_offline.models.registry import FAMILIES
from sif_offline.models.testing import tiny_adapter
from sif_offline.models.testing.photos import photo
from tests.cli.conftest import OneLine, Sif


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without weights: the check needs none."""
    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("llava") / "tiny"
    adapter = tiny_adapter("llava")
    adapter.model.config.save_pretrained(folder)
    adapter.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / "odd"
    folder.mkdir()
    photo("chelsea", (37, 53)).save(folder / "tiny.png")
    photo("coffee", (331, 64)).save(folder / "wide.jpg")
    Image.new("L", (20, 90), 7).save(folder / "grey.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_list_names_every_family(sif: Sif) -> None:
    result = sif("models", "list")
    assert result.code == 0
    for family in FAMILIES.values():
        assert family.name in result.stdout
        assert family.examples[0] in result.stdout
    rows = json.loads(sif("models", "list", "--json").stdout)["families"]
    assert {row["family"] for row in rows} >= set(FAMILIES)
    (llava,) = [row for row in rows if row["family"] == "llava"]
    assert llava["backend"] == "pil"
    assert llava["loaded_by"] == "sifwatch"


def test_check_of_a_model_that_is_equal(sif: Sif, llava: Path, odd: Path) -> None:
    result = sif("models", "check", f"llava:{llava}", "--images", odd)
    assert (result.code, result.stderr) == (0, "")
    assert "equal on all 3 photos" in result.stdout
    found = json.loads(sif("models", "check", f"llava:{llava}", "--images", odd, "--json").stdout)
    assert found["equal"] is True
    assert found["largest_difference"] <= 1e-6
    assert [row["photo"] for row in found["photos"]] == ["grey.png", "tiny.png", "wide.jpg"]
    assert [(row["width"], row["height"]) for row in found["photos"]] == [(20, 90), (37, 53), (331, 64)]


def test_check_of_the_lab_model(sif: Sif, models: Path, odd: Path) -> None:
    result = sif("models", "check", f"lab:{models / 'owner'}", "--images", odd, "--count", "1")
    assert result.code == 0
    assert "equal on all 1 photos" in result.stdout


def test_check_of_a_model_that_differs(
    sif: Sif, llava: Path, odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A family that squeezes where the processor crops: exit 1, and the numbers are told."""
    from sif_offline.models.hf import llava as family

    monkeypatch.setattr(family, "resized_to", lambda wanted, size: (wanted.shortest_edge,) * 2)
    result = sif("models", "check", f"llava:{llava}", "--images", odd, "--json")
    assert result.code == 1
    found = json.loads(result.stdout)
    assert found["equal"] is False
    assert found["largest_difference"] > 0.1
    assert all(row["template_equal"] for row in found["photos"])
    assert "photos differ" in sif("models", "check", f"llava:{llava}", "--images", odd).stdout


def test_mistakes_are_one_line(sif: Sif, llava: Path, odd: Path, tmp_path: Path, one_line: OneLine) -> None:
    one_line(sif("models", "check", f"llava:{llava}", "--images", tmp_path / "none"), "not a folder")
    (tmp_path / "empty").mkdir()
    one_line(sif("models", "check", f"llava:{llava}", "--images", tmp_path / "empty"), "0 photos")
    one_line(sif("models", "check", "nosuch:x", "--images", odd), "one of")
    one_line(sif("models", "check", f"gemma3:{llava}", "--images", odd), "'llava'")
