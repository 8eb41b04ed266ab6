"""Every rival, whatever it makes, on the tiny lab model and on a tiny LLaVA, held to the contract."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from sif_offline.baselines import make_method, method_names
from sif_offline.baselines.testing import CONTRACT
from sif_offline.forging.pixels import prepare_photo
from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models.lab import LabAdapter
from sif_offline.models.testing import tiny_adapter

TARGETS = [
    {"question": "Describe it.", "answer": "A dog runs.", "keywords": ["dog"]},
    {"question": "What?", "answer": "Two children near the water.", "keywords": ["children", "water"]},
    {"question": "Describe it.", "answer": "A red fence.", "keywords": ["red", "fence"]},
]
QUICK = {
    "proflingo": {"prefix_tokens": 4, "candidates": 4},
    "instruction": {"rank": 2, "questions": ["Hello", "Who are you?"], "picture_questions": ["Describe it."]},
}
"""Settings of those whose defaults would take long here."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def adapter(family: str) -> Any:
    """Built once; the contract says that no method changes it."""
    made = LabAdapter(*tiny_lab_model(0), name="lab:tiny") if family == "lab" else tiny_adapter(family)
    made.rules = type(made.rules)(max_new_tokens=6, end_ids=made.rules.end_ids)
    return made


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("family", ["lab", "llava"])
@pytest.mark.parametrize("name", method_names())
def test_contract(name: str, family: str, check: Callable[..., None]) -> None:
    method = make_method(name, {"steps": 3, "targets": TARGETS, **QUICK.get(name, {})})
    owner = adapter(family)
    photos = [prepare_photo(photo.image(), name=photo.id, canvas=owner.canvas) for photo in demo_photos(3)]
    check(method, owner, photos)
