"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL beyond the contract: published processors, positions, DeepStack, RFO."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from sif_offline.forging.robustness import captured_states, drifted_states, worst_drift
from sif_offline.models.checks import picture_tensor
from sif_offline.models.hf.qwen_pixels import PatchGrid
from sif_offline.models.testing import tiny_adapter
from sif_offline.models.testing.photos import odd_photos, photo

FAMILIES = ("qwen2-vl", "qwen2.5-vl", "qwen3-vl")
PROMPT = "Describe."
RESPONSE = torch.tensor([[20, 30, 40, 50, 60]])
RHO = 0.5
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    # preprocessor_config.json of Qwen2-VL-7B-Instruct and Qwen2.5-VL-7B-Instruct
    "qwen2-vl": {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    # of Qwen3-VL-8B-Instruct
    "qwen3-vl": {
        "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def tiny(family: str) -> Any:
    return tiny_adapter(family)


@pytest.mark.parametrize("family", list(PUBLISHED))
def test_pixels_are_the_published_processors(family: str) -> None:
    """Bit for bit, at the models' real resolutions."""
    adapter = tiny_adapter(family)
    processor = Qwen2VLImageProcessorPil(**PUBLISHED[family])
    adapter.processor.image_processor = processor
    for image in odd_photos():
        theirs = processor(image, return_tensors="pt")
        ours = adapter.preprocess(picture_tensor(image))
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    height, width = adapter.default_canvas()
    assert adapter.grid().size(height, width) == (height, width) == (448, 448)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    bounds=st.sampled_from([(14, 3136, 12845056), (16, 65536, 16777216), (14, 3136, 200704)]),
)
@example(height=1, width=200, bounds=(14, 3136, 12845056))
@example(height=42, width=70, bounds=(14, 3136, 12845056))  # halves, where round() goes to even
def test_grid_is_the_processors(height: int, width: int, bounds: tuple[int, int, int]) -> None:
    assume(max(height, width) <= 200 * min(height, width))
    side, least, most = bounds
    grid = PatchGrid(
        patch_size=side,
        merge_size=2,
        temporal_patch_size=2,
        min_pixels=least,
        max_pixels=most,
        resample=Image.Resampling.BICUBIC,
    )
    expected = smart_resize(height, width, factor=2 * side, min_pixels=least, max_pixels=most)
    assert grid.size(height, width) == expected


def test_a_ribbon_is_refused_as_the_processor_refuses_it() -> None:
    ribbon = Image.new("RGB", (201, 1))
    with pytest.raises(ValueError, match="aspect ratio"):
        tiny("qwen2-vl").processed([ribbon], PROMPT)
    with pytest.raises(ValueError, match="more than 200 times"):
        tiny("qwen2-vl").preprocess(picture_tensor(ribbon))


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_time_row_and_column(family: str) -> None:
    """Two rows of eight tokens: text counts on all three axes alike, and goes on behind the widest one."""
    adapter = tiny(family)
    side = 2 * adapter.grid().patch_size
    image = photo("coffee", (8 * side, 2 * side))
    features = adapter.encode_images(picture_tensor(image))
    prompt = adapter.prompt_ids(PROMPT, size=(image.height, image.width))
    seen: list[Tensor] = []
    handle = adapter.model.model.language_model.register_forward_pre_hook(
        lambda _module, _args, options: seen.append(options["position_ids"]), with_kwargs=True
    )
    try:
        adapter.response_logits(features, prompt, RESPONSE)
    finally:
        handle.remove()
    before = prompt.tolist().index(adapter.image_token_id)
    behind = len(prompt) + RESPONSE.shape[1] - 1 - before - 16
    tokens = [(before, before + row, before + column) for row in range(2) for column in range(8)]
    expected = [(n,) * 3 for n in range(before)] + tokens + [(before + 8 + n,) * 3 for n in range(behind)]
    assert seen[0][:, 0].T.tolist() == [list(place) for place in expected]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_features_in_another_grid_are_another_picture(family: str) -> None:
    adapter = tiny(family)
    side = 2 * adapter.grid().patch_size
    features = adapter.encode_images(picture_tensor(photo("coffee", (4 * side, 4 * side))))
    flat = replace(features, size=(2 * side, 8 * side))
    prompt = adapter.prompt_ids(PROMPT, size=features.size)
    assert torch.equal(prompt, adapter.prompt_ids(PROMPT, size=flat.size))
    square, wide = (adapter.response_logits(f, prompt, RESPONSE) for f in (features, flat))
    assert float((square - wide).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_rfos_second_pass_is_the_models_forward_under_the_same_drift(family: str) -> None:
    """Positions and DeepStack must hold while the layers' states are moved: the model's own forward from
    pixels, with the same drifts behind the same layers, gives the same logits."""
    adapter = tiny(family)
    image = photo("chelsea", (150, 61))
    layers = list(adapter.decoder_layers())
    prompt = adapter.prompt_ids(PROMPT, size=(image.height, image.width))
    features = adapter.encode_images(picture_tensor(image))
    with captured_states(layers) as states:
        plain = adapter.response_logits(features.leaf(), prompt, RESPONSE)
    loss = torch.nn.functional.cross_entropy(plain[0], RESPONSE[0])
    drifts = worst_drift(loss, states, rho=RHO)
    with drifted_states(layers, drifts):
        ours = adapter.response_logits(features, prompt, RESPONSE)

    inputs = adapter.processed([image], PROMPT)
    ids = torch.cat([inputs["input_ids"], RESPONSE[:, :-1]], dim=1)
    types = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, RESPONSE.shape[1] - 1))
    with torch.no_grad(), drifted_states(layers, drifts) as realised:
        theirs = adapter.model(
            input_ids=ids,
            mm_token_type_ids=types,
            pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
            use_cache=False,
        ).logits[:, -RESPONSE.shape[1] :]
    torch.testing.assert_close(ours.detach(), theirs, rtol=1e-4, atol=1e-4)
    norm = torch.stack([drift.norm() for drift in realised]).norm()
    torch.testing.assert_close(norm, torch.tensor(RHO), rtol=1e-4, atol=0)
    moved = torch.nn.functional.cross_entropy(ours[0], RESPONSE[0])
    assert float(moved.detach()) > float(loss.detach()) + 1e-3


def test_deepstack_carries_a_gradient_of_its_own() -> None:
    """Every level moves the logits, and the loss has a gradient with respect to each."""
    adapter = tiny("qwen3-vl")
    image = photo("coffee", (128, 96))
    prompt = adapter.prompt_ids(PROMPT, size=(image.height, image.width))
    features = adapter.encode_images(picture_tensor(image)).leaf()
    levels = len(adapter.model.config.vision_config.deepstack_visual_indexes)
    assert len(features.tensors) == 1 + levels == 3
    logits = adapter.response_logits(features, prompt, RESPONSE)
    gradients = torch.autograd.grad(logits.square().sum(), features.tensors)
    assert all(bool(gradient.any()) for gradient in gradients)
    for place in range(1, len(features.tensors)):
        tensors = list(features.tensors)
        tensors[place] = torch.zeros_like(tensors[place])
        without = adapter.response_logits(replace(features, tensors=tuple(tensors)), prompt, RESPONSE)
        assert float((without - logits).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_leaves_nothing_behind(family: str) -> None:
    """The models keep the last picture's offset of positions; training passes must not read it."""
    adapter = tiny(family)
    image, other = photo("coffee", (112, 56)), photo("chelsea", (56, 168))
    prompt = adapter.prompt_ids(PROMPT, size=(image.height, image.width))
    features = adapter.encode_images(picture_tensor(image))
    before = adapter.response_logits(features, prompt, RESPONSE)
    adapter.generate([other], "And this one, in a few more words?", max_new_tokens=2)
    assert torch.equal(adapter.response_logits(features, prompt, RESPONSE), before)
