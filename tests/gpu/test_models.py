"""Adapters on a CUDA device: the same pixels as on the CPU, and bfloat16 weights through forging's passes."""

from functools import cache
from typing import Any

import pytest
import torch

from sif_offline.forging.robustness import captured_states, drifted_states, worst_drift
from sif_offline.models.checks import check_pixels, picture_tensor
from sif_offline.models.resize import Filter, resize
from sif_offline.models.testing import TINY, tiny_adapter
from sif_offline.models.testing.photos import odd_photos, photo

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
RHO = 0.5


@cache
def on_cuda(family: str, dtype: torch.dtype) -> Any:
    made = tiny_adapter(family)
    return type(made)(made.model.to(dtype), made.processor, name=made.name, device="cuda")


@pytest.mark.parametrize("kind", list(Filter))
def test_resize_is_the_cpus(kind: Filter) -> None:
    for image in odd_photos():
        pixels = picture_tensor(image)
        here = resize(pixels, size=(97, 131), resample=kind)
        assert torch.equal(resize(pixels.cuda(), size=(97, 131), resample=kind).cpu(), here)


@pytest.mark.parametrize("family", sorted(TINY))
def test_pixels_are_the_processors(family: str) -> None:
    for image in odd_photos():
        found = check_pixels(on_cuda(family, torch.float32), image)
        assert found.equal, found


@pytest.mark.parametrize("family", sorted(TINY))
def test_bfloat16_weights_take_a_float32_drift(family: str) -> None:
    """In bfloat16 most of a drift of this size would be rounded away."""
    adapter = on_cuda(family, torch.bfloat16)
    height, width = adapter.canvas
    pixels = torch.cat(
        [picture_tensor(photo(name).resize((width, height))) for name in ("coffee", "chelsea")]
    )
    leaf = pixels.cuda().requires_grad_()
    responses = torch.tensor([[20, 30, 40, 50], [21, 31, 41, 51]], device="cuda")
    prompt = adapter.prompt_ids("Describe.")
    features = adapter.encode_images(leaf)
    layers = adapter.decoder_layers()
    with captured_states(layers) as states:
        logits = adapter.response_logits(features.leaf(), prompt, responses)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), responses.flatten(), reduction="sum")
    drifts = worst_drift(loss, states, rho=RHO)
    with drifted_states(layers, drifts) as realised:
        logits = adapter.response_logits(features, prompt, responses)
    norms = torch.stack([drift.flatten(1).square().sum(1) for drift in realised])
    assert bool((norms > 0).all())
    torch.testing.assert_close(norms.sum(0).sqrt().cpu(), torch.full((2,), RHO), rtol=2e-2, atol=0)
    moved = torch.nn.functional.cross_entropy(logits.flatten(0, 1), responses.flatten(), reduction="sum")
    assert float(moved.detach()) > float(loss.detach())
    (gradient,) = torch.autograd.grad(moved, leaf)
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())


@pytest.mark.parametrize("family", sorted(TINY))
def test_answers_and_perturbed_copies(family: str) -> None:
    adapter = on_cuda(family, torch.bfloat16)
    images = [photo("coffee", (120, 80)), photo("chelsea", (90, 90))]
    answers = adapter.generate(images, "Why?", max_new_tokens=5)
    assert answers == [adapter.generate([image], "Why?", max_new_tokens=5)[0] for image in images]
    copy, same = (adapter.perturbed(noise=0.1, seed=seed) for seed in (3, 3))
    assert copy.generate(images, "Why?", max_new_tokens=5) == same.generate(images, "Why?", max_new_tokens=5)
