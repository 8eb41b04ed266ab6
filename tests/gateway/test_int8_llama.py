"""The 8-bit Llama: exact but for the rounding, independent of the batch, near float32 on SmolLM2."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gateway_plugin.prompts import read_prompts
from gateway_plugin.screening.language_models import int8_llama
from gateway_plugin.screening.language_models.causal import TransformersScorer
from gateway_plugin.screening.language_models.gguf import converted, packaged_gguf
from gateway_plugin.screening.language_models.int8_llama import Int8Llama, PackedLinear, runs_here
from gateway_plugin.screening.language_models.smollm2 import SmolLM2, shared_language_model
from gateway_plugin.screening.perplexity import worst_window

pytestmark = pytest.mark.skipif(not runs_here(), reason="this processor has no VNNI")

OPENING = [1, 5, 9]
CHUNKS = [[7], [3, 4, 60, 61, 62], list(range(2, 59)), [8, 8, 8]]


@pytest.fixture(scope="module")
def llama() -> Any:
    """Four heads on two groups, random, a few channels forty times as loud as the others."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0 if parameter.ndim == 2 else 1.0)
        for layer in model.model.layers:
            layer.input_layernorm.weight[:3] = 40.0
            layer.mlp.up_proj.weight[:3] *= 40.0
        embedding = model.model.embed_tokens.weight
        embedding.copy_(embedding.bfloat16())  # as it is held
    return model


def test_without_the_rounding_it_is_transformers_forward(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotary embedding, groups, the kept opening, padding and the moved ranges change nothing."""

    def plain(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: x @ weight.T

    monkeypatch.setattr(int8_llama, "PackedLinear", plain)
    model = Int8Llama(llama, opening=OPENING, samples=[[4, 5, 6, 7], [20, 21]])
    expected = TransformersScorer(llama, opening=OPENING).surprisals(CHUNKS)
    for mine, theirs in zip(model.surprisals(CHUNKS), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-3)


def test_a_score_does_not_depend_on_the_texts_beside_it(llama: Any) -> None:
    model = Int8Llama(llama, opening=OPENING, samples=CHUNKS)
    for chunk, together in zip(CHUNKS, model.surprisals(CHUNKS), strict=True):
        (alone,) = model.surprisals([chunk])
        assert alone.shape == (len(chunk),)
        np.testing.assert_allclose(alone, together, atol=1e-3)


def test_a_product_is_within_half_a_step_of_each_factor() -> None:
    """|error| <= sum_j |x_j| w_step/2 + |w_j| x_step/2 + x_step w_step/4, at every output."""
    rng = np.random.default_rng(1)
    weight = torch.from_numpy(rng.normal(size=(48, 32)).astype(np.float32))
    x = torch.from_numpy((rng.normal(size=(9, 32)) * np.logspace(-3, 3, 9)[:, None]).astype(np.float32))
    w_step, x_step = weight.abs().amax(1) / 127, x.abs().amax(1) / 127
    bound = 0.5 * x.abs().sum(1)[:, None] * w_step + 0.5 * x_step[:, None] * weight.abs().sum(1)
    bound += 32 * 0.25 * x_step[:, None] * w_step
    error = (PackedLinear(weight)(x) - x @ weight.T).abs()
    assert (error <= bound * 1.001).all()
    assert error.max() > 0


def test_smollm2_finds_the_same_windows_strange_in_8_bits() -> None:
    path = Path(__file__).parent / "data" / "hard_negatives.jsonl"
    texts = list(read_prompts(str(path)))[::12]
    exact = SmolLM2(converted(packaged_gguf()), precision="fp32").token_surprisals(texts, max_tokens=256)
    near = shared_language_model("int8").token_surprisals(texts, max_tokens=256)
    windows = [worst_window(a) - worst_window(b) for (a, _), (b, _) in zip(near, exact, strict=True)]
    assert np.mean(np.abs(windows)) < 0.15  # nats; the thresholds lie at 8.5 and 9.4
    assert np.max(np.abs(windows)) < 0.6
