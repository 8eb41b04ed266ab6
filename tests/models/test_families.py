"""Every family with a tiny model, held to the contract of an adapter; then forging with one."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sif_offline.fingerprint.keys import MasterSecret
from sif_offline.fingerprint.pack import read_pack
from sif_offline.forging.optimiser import Batch
from sif_offline.forging.pipeline import forge_pack
from sif_offline.forging.pixels import pixel_tensor, prepare_photo
from sif_offline.forging.robustness import drifted_states
from sif_offline.forging.settings import ForgeSettings
from sif_offline.models.registry import FAMILIES
from sif_offline.models.testing import TINY, tiny_adapter
from sif_offline.models.testing.contract import CONTRACT
from sif_offline.models.testing.photos import photo

RHO = 0.5


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def tiny(family: str) -> Any:
    """Built once for all tests; none of them changes it."""
    return tiny_adapter(family)


def test_every_family_but_the_lab_has_a_tiny_model() -> None:
    assert set(TINY) == set(FAMILIES) - {"lab"}


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("family", sorted(TINY))
def test_contract(family: str, check: Callable[[Any], None]) -> None:
    check(tiny(family))


@cache
def in_bfloat16(family: str) -> Any:
    """The same with weights as an accelerator holds them."""
    made = tiny_adapter(family)
    return type(made)(made.model.to(torch.bfloat16), made.processor, name=made.name)


@pytest.mark.parametrize("numbers", ["float32", "autocast", "bfloat16"])
@pytest.mark.parametrize("family", sorted(TINY))
def test_rfo_moves_every_chosen_layer_and_the_joint_norm_is_rho(family: str, numbers: str) -> None:
    """With bfloat16 weights too: added to a bfloat16 state, a drift of this size would be rounded away."""
    adapter = in_bfloat16(family) if numbers == "bfloat16" else tiny(family)
    autocast = numbers == "autocast"
    settings = ForgeSettings(rho=RHO, autocast=autocast, rfo_every=2)
    green = torch.zeros(2, adapter.vocab_size, dtype=torch.bool)
    green[0, ::2] = True
    green[1, 1::2] = True
    teachers = [[20, 30, 40, 50, 60], [21, 31, 41]]
    batch = Batch(adapter, prompt="Describe.", teachers=teachers, green=green, settings=settings)
    height, width = adapter.canvas
    features = adapter.encode_images(pixel_tensor([photo("coffee").resize((width, height))] * 2))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        drifts = batch._drifts(features)
        with drifted_states(batch.layers, drifts) as realised:
            logits = adapter.response_logits(features, batch.prompt_ids, batch.response_ids)
            assert logits.dtype == torch.float32
    assert len(realised) == len(range(0, len(adapter.decoder_layers()), 2))
    norms = torch.stack([drift.flatten(1).norm(dim=1) for drift in realised])
    assert bool((norms > 1e-3 * RHO).all())
    torch.testing.assert_close(norms.square().sum(0).sqrt(), torch.full((2,), RHO), rtol=1e-2, atol=0)


def test_processors_want_pictures_of_one_size() -> None:
    from transformers import LogitsProcessorList, TemperatureLogitsWarper

    images = [Image.new("RGB", size) for size in ((30, 30), (30, 40))]
    with pytest.raises(ValueError, match="one size"):
        tiny("llava").generate(images, "?", processors=LogitsProcessorList([TemperatureLogitsWarper(2.0)]))


@pytest.mark.parametrize("family", ["llava", "llava-next"])
def test_a_pack_is_forged(family: str, tmp_path: Path) -> None:
    adapter = tiny(family)
    pictures = [
        prepare_photo(photo(name), name=name, canvas=adapter.canvas) for name in ("coffee", "chelsea")
    ]
    settings = ForgeSettings(
        steps=2, judge_every=1, teacher_draws=1, min_tokens=1, min_types=1, judge_copies=1, refine_rounds=0
    )
    adapter.rules = type(adapter.rules)(max_new_tokens=6, end_ids=adapter.rules.end_ids)
    forge_pack(
        adapter, photos=pictures, secret=MasterSecret(b"k" * 32), settings=settings, out=tmp_path / "pack"
    )
    pack = read_pack(tmp_path / "pack")
    assert pack.owner.id == f"{family}:tiny"
    for row, picture in zip(pack.triggers, pictures, strict=True):
        moved = pixel_tensor([Image.open(tmp_path / "pack" / row.file)]) - pixel_tensor([picture.image()])
        assert 0 < float(moved.abs().max()) <= settings.epsilon
