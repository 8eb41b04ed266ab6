"""A tiny random lab model and two real photos."""

import pytest
import torch

from sif_offline.forging.pixels import Photo, prepare_photo
from sif_offline.forging.settings import ForgeSettings
from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models.lab import LabAdapter


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def adapter() -> LabAdapter:
    model, processor = tiny_lab_model(0)
    return LabAdapter(model, processor, name="lab:tiny")


@pytest.fixture(scope="session")
def photos(adapter: LabAdapter) -> list[Photo]:
    return [prepare_photo(photo.image(), name=photo.id, canvas=adapter.canvas) for photo in demo_photos(3)]


@pytest.fixture
def settings() -> ForgeSettings:
    return ForgeSettings(
        steps=3,
        judge_every=1,
        batch_size=2,
        teacher_draws=2,
        min_tokens=1,
        min_types=1,
        autocast=False,
        rho=0.1,
        judge_copies=1,
        refine_rounds=1,
        refine_candidates=2,
    )
