"""The lab adapter against the model and processor it wraps, and the registry."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from sif_offline.forging.pixels import pixel_tensor
from sif_offline.lab import tiny_lab_model
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.photos import demo_photos
from sif_offline.lab.processing import LabProcessor
from sif_offline.models import ModelError, VLMAdapter, families, load_adapter
from sif_offline.models.attention import attention
from sif_offline.models.digest import weights_digest
from sif_offline.models.lab import LabAdapter

PROMPT = "Describe this image."


@pytest.fixture(scope="module")
def parts() -> tuple[LabVLM, LabProcessor]:
    torch.set_num_threads(1)
    return tiny_lab_model(1)


@pytest.fixture(scope="module")
def adapter(parts: tuple[LabVLM, LabProcessor]) -> LabAdapter:
    return LabAdapter(*parts, name="lab:tiny")


def test_it_is_an_adapter(adapter: LabAdapter) -> None:
    assert isinstance(adapter, VLMAdapter)
    assert adapter.vocab_size == adapter.model.config.text_config.vocab_size
    assert not any(parameter.requires_grad for parameter in adapter.model.parameters())
    assert adapter.rules.no_repeat_ngram_size == adapter.model.generation_config.no_repeat_ngram_size


def test_pixels_are_the_processors(adapter: LabAdapter, parts: tuple[LabVLM, LabProcessor]) -> None:
    images = [photo.image().crop((0, 0, 224, 224)) for photo in demo_photos(2)]
    ours = adapter.preprocess(pixel_tensor(images))["pixel_values"]
    torch.testing.assert_close(ours, parts[1].pixel_values(images), rtol=0, atol=1e-6)


def test_response_logits_are_the_models(adapter: LabAdapter, parts: tuple[LabVLM, LabProcessor]) -> None:
    """One forward pass by the model's own path, its rows picked by hand; padding has no say."""
    model, processor = parts
    images = [photo.image().crop((0, 0, 224, 224)) for photo in demo_photos(2)]
    responses = torch.tensor([[20, 30, 40, 50], [21, 31, 31, 31]])
    features = adapter.encode_images(pixel_tensor(images))
    prompt_ids = adapter.prompt_ids(PROMPT)
    ours = adapter.response_logits(features, prompt_ids, responses)
    assert ours.shape == (2, 4, adapter.vocab_size)
    for row, length in ((0, 4), (1, 2)):
        inputs = processor(processor.prompt(PROMPT), images=images[row])
        assert inputs["input_ids"][0].tolist() == prompt_ids.tolist()
        ids = torch.cat([inputs["input_ids"], responses[row : row + 1, :length]], dim=1)
        with torch.no_grad():
            full = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits
        start = prompt_ids.shape[0] - 1
        torch.testing.assert_close(ours[row, :length], full[0, start:-1], rtol=1e-4, atol=1e-4)


def test_generate_is_the_models_greedy_answer(
    adapter: LabAdapter, parts: tuple[LabVLM, LabProcessor]
) -> None:
    model, processor = parts
    images = [photo.image() for photo in demo_photos(2)]
    answers = adapter.generate(images, PROMPT)
    for image, answer in zip(images, answers, strict=True):
        inputs = processor(processor.prompt(PROMPT), images=image)
        ids = model.generate(**inputs, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
        kept = ids[: ids.index(2)] if 2 in ids else ids
        assert answer == [i for i in kept if i not in adapter.special_ids]
    assert answers[0] != answers[1]


def test_attention_for_gradients_is_the_fused_one() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, 7, 8, generator=generator).requires_grad_() for _ in range(3)]
    weights = torch.randn(2, 7, 3, 8, generator=generator)
    ours, _ = attention(torch.nn.Module(), *parts, None, scaling=0.3)
    fused = functional.scaled_dot_product_attention(*parts, is_causal=True, scale=0.3).transpose(1, 2)
    torch.testing.assert_close(ours, fused)
    for slope, wanted in zip(
        *(torch.autograd.grad((found * weights).sum(), parts) for found in (ours, fused)), strict=True
    ):
        torch.testing.assert_close(slope, wanted)


def test_a_copy_takes_the_owners_encoding_of_the_same_pictures(
    adapter: LabAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = adapter.perturbed(noise=0.5, seed=1)
    first, second = (photo.image() for photo in demo_photos(2))
    alone = LabAdapter(copied.model, copied.processor, name="lab:alone").generate([first], PROMPT)
    encoded: list[int] = []
    for model in (adapter.model, copied.model):
        monkeypatch.setattr(
            model,
            "encode_images",
            lambda values, whole=model.encode_images: (encoded.append(len(values)), whole(values))[1],
        )
    adapter.generate([second, first], PROMPT)
    adapter.generate([first], PROMPT)
    assert copied.generate([first], PROMPT) == alone
    assert encoded == [2, 1]


def test_perturbed_copy_leaves_the_original_alone(adapter: LabAdapter) -> None:
    before = weights_digest(adapter.model)
    copy, same, other = (adapter.perturbed(noise=0.1, seed=seed) for seed in (1, 1, 2))
    assert weights_digest(adapter.model) == before == adapter.weights_sha256
    assert weights_digest(copy.model) == weights_digest(same.model)
    assert len({before, weights_digest(copy.model), weights_digest(other.model)}) == 3


def test_load_from_a_directory(
    adapter: LabAdapter, parts: tuple[LabVLM, LabProcessor], tmp_path: Path
) -> None:
    model, processor = parts
    model.save_pretrained(tmp_path / "copy")
    processor.save_pretrained(tmp_path / "copy")
    loaded = load_adapter(f"lab:{tmp_path / 'copy'}")
    assert loaded.weights_sha256 == adapter.weights_sha256
    assert loaded.model_id == "lab:copy"
    assert loaded.tokenizer_json() == adapter.tokenizer_json()


def test_models_that_are_not_there(tmp_path: Path) -> None:
    assert "lab" in families()
    (tmp_path / "config.json").write_text("{")
    for spec, said in (
        ("owner", "FAMILY:MODEL"),
        ("lab:", "FAMILY:MODEL"),
        ("nosuch:thing", "FAMILY one of"),
        ("lab:no-such-model", "lab:no-such-model"),
        (f"lab:{tmp_path}", str(tmp_path)),
    ):
        with pytest.raises(ModelError, match=said) as caught:
            load_adapter(spec)
        assert "\n" not in str(caught.value)
