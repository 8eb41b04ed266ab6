"""What every adapter keeps, as functions that raise ``AssertionError``.

A third party's test is three lines::

    @pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
    def test_contract(check):
        check(my_tiny_adapter())

The adapter is one of a tiny model in float32 on the CPU, with ``model``, the transformers model itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from sif_offline.models.base import VLMAdapter
from sif_offline.models.checks import (
    GRADIENT_TOLERANCE,
    check_pixels,
    check_template,
    gradient_error,
    picture_tensor,
)
from sif_offline.models.digest import weights_digest
from sif_offline.models.testing.photos import odd_photos, photo

PROMPT = "What is in this picture? Be brief."
RESPONSES = ((20, 30, 40, 50, 60), (21, 31, 41, 41, 41))
"""Two responses, the second three ids long and padded with its last."""
LENGTHS = (5, 3)


def pixels_are_the_processors(adapter: VLMAdapter) -> None:
    """Every prepared value of photos of odd sizes is the model's own processor's."""
    for image in [*odd_photos(), _canvas_photo(adapter)]:
        found = check_pixels(adapter, image)
        _require(found.equal, f"{found}")


def prompts_are_the_processors(adapter: VLMAdapter) -> None:
    """The ids that forging conditions on are the chat template's, for every size of picture."""
    for image in [*odd_photos(), _canvas_photo(adapter)]:
        _require(check_template(adapter, image, prompt=PROMPT), f"template differs for {image.size}")
    size = adapter.canvas
    _require(torch.equal(adapter.prompt_ids(PROMPT), adapter.prompt_ids(PROMPT, size=size)), "canvas size")


def the_gradient_stands_a_finite_difference_test(adapter: VLMAdapter) -> None:
    """Directional derivatives of the preprocessing in float64, at sizes that shrink, grow and stay."""
    for image in (photo("chelsea", (37, 53)), photo("coffee", (170, 91)), _canvas_photo(adapter)):
        error = gradient_error(adapter, image)
        _require(error < GRADIENT_TOLERANCE, f"{image.size}: relative error {error:.3g}")


def response_logits_are_the_models(adapter: Any) -> None:
    """Teacher-forced logits from our pixels equal the model's own forward on its processor's inputs."""
    for image in (_canvas_photo(adapter), photo("chelsea", (451, 300)), photo("flower", (91, 170))):
        ours = _logits(adapter, [image, image])
        for row, length in enumerate(LENGTHS):
            theirs = _reference_logits(adapter, image, RESPONSES[row][:length])
            torch.testing.assert_close(ours[row, :length], theirs, rtol=1e-4, atol=1e-4)


def the_picture_matters(adapter: Any) -> None:
    """Other pictures give other logits; without this the other checks could not fail."""
    size = _canvas_photo(adapter).size
    first, second = (_logits(adapter, [photo(name).resize(size)] * 2) for name in ("coffee", "astronaut"))
    gap = float((first - second).abs().max())
    _require(gap > 1e-2, f"logits of two photos differ by {gap:.3g} only")


def a_batch_is_its_members(adapter: Any) -> None:
    """Pictures encoded and forced together give what each gives alone."""
    images = [photo(name).resize((90, 60)) for name in ("coffee", "chelsea")]
    both = _logits(adapter, images)
    for row, image in enumerate(images):
        alone = _logits(adapter, [image, image])
        torch.testing.assert_close(
            both[row, : LENGTHS[row]], alone[row, : LENGTHS[row]], rtol=1e-4, atol=1e-4
        )


def answers_are_the_models(adapter: Any) -> None:
    """Greedy answers to pictures of mixed sizes equal the model's own, asked one at a time."""
    images = [photo("coffee", (120, 80)), _canvas_photo(adapter), photo("chelsea", (120, 80))]
    answers = adapter.generate(images, PROMPT, max_new_tokens=6)
    for image, answer in zip(images, answers, strict=True):
        inputs = dict(adapter.processed([image], PROMPT))
        with torch.no_grad():
            output = adapter.model.generate(**inputs, do_sample=False, max_new_tokens=6)
        ids = output[0, inputs["input_ids"].shape[1] :].tolist()
        shown = ids[: next((place for place, i in enumerate(ids) if i in adapter.rules.end_ids), len(ids))]
        _require(answer == [i for i in shown if i not in adapter.special_ids], f"{answer} against {shown}")


def forging_and_asking_see_one_model(adapter: Any) -> None:
    """The greedy answer is the path of largest teacher-forced logits: pixels, template and model agree."""
    image = _canvas_photo(adapter)
    inputs = adapter.processed([image], PROMPT)
    with torch.no_grad():
        output = adapter.model.generate(**inputs, do_sample=False, max_new_tokens=6, repetition_penalty=1.0)
        answer = output[:, inputs["input_ids"].shape[1] :]
        features = adapter.encode_images(picture_tensor(image))
        logits = adapter.response_logits(features, adapter.prompt_ids(PROMPT), answer)
    chosen = logits.gather(-1, answer[..., None]).squeeze(-1)
    _require(bool((chosen >= logits.amax(-1) - 1e-4).all()), "the answer is not the forced path")


def every_decoder_layer_takes_part(adapter: Any) -> None:
    """Each of ``decoder_layers`` is a block whose state the response's loss depends on, with a gradient."""
    states: list[Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    layers = list(adapter.decoder_layers())
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        logits = _logits(adapter, [_canvas_photo(adapter)] * 2, leaf=True)
    finally:
        for handle in handles:
            handle.remove()
    _require(len(states) == len(layers), f"{len(layers)} layers, {len(states)} states")
    responses = torch.tensor(RESPONSES)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), responses.flatten())
    for place, gradient in enumerate(torch.autograd.grad(loss, states)):
        _require(gradient.ndim == 3 and bool(gradient.any()), f"layer {place} has no gradient")


def the_gradient_reaches_the_pixels(adapter: Any) -> None:
    """Loss to pixels, through decoder, projector, tower and preprocessing, for a size that is resized."""
    image = photo("coffee", (131, 77))
    leaf = picture_tensor(image).requires_grad_()
    features = adapter.encode_images(leaf)
    prompt = adapter.prompt_ids(PROMPT, size=(image.height, image.width))
    logits = adapter.response_logits(features, prompt, torch.tensor(RESPONSES[:1]))
    (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[..., 5].sum(), leaf)
    _require(bool(gradient.isfinite().all()) and bool(gradient.any()), "no gradient")


def a_perturbed_copy_leaves_the_original_alone(adapter: Any) -> None:
    """Copies differ by seed, repeat by seed, and change no weight of the original."""
    before = weights_digest(adapter.model)
    copies = [adapter.perturbed(noise=0.1, seed=seed) for seed in (1, 1, 2)]
    digests = [weights_digest(copy.model) for copy in copies]
    _require(weights_digest(adapter.model) == before, "the original changed")
    _require(digests[0] == digests[1], "the same seed gave two copies")
    _require(len({before, *digests}) == 3, "noise did nothing")


def the_rest_of_the_interface(adapter: VLMAdapter) -> None:
    """Attributes, frozen weights, a tokenizer that can be read back, texts without special tokens."""
    _require(isinstance(adapter, VLMAdapter), "not a VLMAdapter")
    model: Any = adapter.model  # type: ignore[attr-defined] # the contract's adapters have one
    _require(not any(p.requires_grad for p in model.parameters()), "weights are not frozen")
    _require(not model.training, "the model is in training mode")
    tokenizer = Tokenizer.from_str(adapter.tokenizer_json().decode())
    ids = tokenizer.encode("A dog", add_special_tokens=False).ids
    _require(adapter.text(ids) == "A dog", f"{adapter.text(ids)!r}")
    _require(adapter.text([*ids, *sorted(adapter.special_ids)]) == "A dog", "special ids are shown")
    _require(max(adapter.special_ids) < adapter.vocab_size, "special ids outside the vocabulary")
    _require(adapter.backend in ("pil", "torchvision"), adapter.backend)


CONTRACT: tuple[Callable[[Any], None], ...] = (
    pixels_are_the_processors,
    prompts_are_the_processors,
    the_gradient_stands_a_finite_difference_test,
    response_logits_are_the_models,
    the_picture_matters,
    a_batch_is_its_members,
    answers_are_the_models,
    forging_and_asking_see_one_model,
    every_decoder_layer_takes_part,
    the_gradient_reaches_the_pixels,
    a_perturbed_copy_leaves_the_original_alone,
    the_rest_of_the_interface,
)


def _canvas_photo(adapter: VLMAdapter) -> Image.Image:
    height, width = adapter.canvas
    return photo("astronaut").resize((width, height), Image.Resampling.BICUBIC)


def _logits(adapter: VLMAdapter, images: list[Image.Image], *, leaf: bool = False) -> Tensor:
    pixels = torch.cat([picture_tensor(image) for image in images])
    features = adapter.encode_images(pixels)
    prompt = adapter.prompt_ids(PROMPT, size=(images[0].height, images[0].width))
    return adapter.response_logits(features.leaf() if leaf else features, prompt, torch.tensor(RESPONSES))


def _reference_logits(adapter: Any, image: Image.Image, response: tuple[int, ...]) -> Tensor:
    """``(T, V)``: the model's forward on its processor's inputs, all positions, without a cache."""
    inputs: Mapping[str, Tensor] = adapter.processed([image], PROMPT)
    said = torch.tensor([response])
    start = inputs["input_ids"].shape[1] - 1
    longer = {
        "input_ids": said,
        "attention_mask": torch.ones_like(said),
        "token_type_ids": torch.zeros_like(said),
        "mm_token_type_ids": torch.zeros_like(said),
    }
    joined = {
        name: torch.cat([value, longer[name].to(value)], dim=1) if name in longer else value
        for name, value in inputs.items()
    }
    with torch.no_grad():
        logits: Tensor = adapter.model(**joined, use_cache=False).logits
    return logits[0, start:-1]


def _require(truth: bool, otherwise: str) -> None:
    if not truth:
        raise AssertionError(otherwise)
