"""A tiny suite over tiny random models on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import write_photos


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints ``owner``, ``null-a`` and ``null-b``."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("owner", "null-a", "null-b")):
        model, processor = tiny_lab_model(seed)
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, count=3)
    return folder


QUICK = {
    "judge_every": 1,
    "judge_copies": 0,
    "refine_rounds": 0,
    "teacher_draws": 1,
    "batch_size": 2,
    "min_tokens": 1,
    "autocast": False,
    "rho": 0.1,
}
"""A forge of a second or two."""


@pytest.fixture
def written(models: Path, photo_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """``written(**keys)``: the file of a tiny suite, some keys in place of its own."""

    def write(**keys: Any) -> Path:
        suite = {
            "name": "tiny",
            "owner": f"lab:{models / 'owner'}",
            "photos": {"folder": str(photo_folder)},
            "budget": {"images": 3, "steps": 2},
            "methods": [{"name": "sif", "settings": QUICK}, {"name": "ordinary"}],
            "suspects": [
                {"name": "as it is"},
                {"name": "4-bit <NF4>", "weights": ["4bit"]},
            ],
            "unrelated": [f"lab:{models / 'null-a'}"],
            "batch": 2,
        } | keys
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(suite))
        return path

    return write
