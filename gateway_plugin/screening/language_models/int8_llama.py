"""A Llama in 8 bits on one processor core, with nothing left to do twice.

Against ``transformers`` on bf16 weights it saves three things. Weights are cut to 8 bits per output channel
and packed once for oneDNN's VNNI kernels (u8 by s8 into s32). The opening, the same before every text, is
run once and its keys and values kept. And a text's first logits come from that run.

A few channels of a Llama's activations are a hundred times the others, and one scale a token has to cover
them. SmoothQuant (Xiao et al., ICML 2023, equation 4) moves half of that range into the weights, where a
scale a channel takes it: ``s_j = max|x_j|^a / max|w_j|^(1 - a)``, x by 1/s and w by s. The division goes into
what comes before: the gain of a norm, the value rows, the rows of the gated unit's linear half.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, rms_norm, scaled_dot_product_attention, silu

from gateway_plugin.screening.language_models.base import Surprisals
from gateway_plugin.screening.language_models.int8 import in_8_bits

MIGRATION = 0.6  # SmoothQuant's alpha; .5 leaves 20 % more error in the worst window of 8 here
POSITIONS = 128  # run together: the activations of more leave the processor's cache and take longer each
ROWS = 16  # a product's rows are a multiple of it
HEAD_ROWS = 128  # positions whose logits are held at once: 25 MB for 49,152 tokens

Linear = Callable[[Tensor], Tensor]


def runs_here() -> bool:
    """Whether this processor multiplies u8 by s8 without saturating, and this torch has the kernel."""
    return bool(torch.cpu._is_vnni_supported()) and hasattr(torch.ops.onednn, "qlinear_prepack")


class PackedLinear:
    """``x @ weight.T`` in 8 bits: x ``(rows, inputs)``, weight ``(outputs, inputs)``, both float32.

    Activations have a scale a row, so that a text's score does not depend on the texts beside it. oneDNN
    compiles and keeps a kernel for every number of rows, so that they are filled up to a multiple of 16: with
    every number its own, the kernels of some thousand texts took 0.3 GB.
    """

    def __init__(self, weight: Tensor) -> None:
        quantised, self._scale = in_8_bits(weight)
        self._zero = torch.zeros(len(weight), dtype=torch.int64)
        self._weight = torch.ops.onednn.qlinear_prepack(quantised, [32, weight.shape[1]])

    def __call__(self, x: Tensor) -> Tensor:
        scale = x.abs().amax(1, keepdim=True).clamp_min_(1e-12).div_(127)
        unsigned = (x / scale).add_(128.5).to(torch.uint8)  # round(x / scale) + 128
        filled = pad(unsigned, (0, 0, 0, -len(x) % ROWS))
        weights = self._weight, self._scale, self._zero, None
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            filled, 1.0, 128, *weights, 1.0, 0, torch.float32, "none", [], ""
        )
        return product[: len(x)].mul_(scale)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Layer:
    attention_gain: Tensor
    queries_keys_values: Linear
    attention_output: Linear
    unit_gain: Tensor
    gate_up: Linear
    down: Linear


class Int8Llama:
    """Scores token ids with the weights of a ``LlamaForCausalLM`` (no biases, default rotary embedding)."""

    def __init__(self, model: Any, *, opening: Sequence[int], samples: Sequence[Sequence[int]]) -> None:
        """
        model: in float32 and evaluation mode; not kept.
        opening: token ids in front of every text, at least one.
        samples: token ids of a few texts of the kinds that come, for the ranges of the activations.
        """
        config = model.config
        self._heads, self._groups = config.num_attention_heads, config.num_key_value_heads
        self._width = config.hidden_size // self._heads
        self._epsilon = float(config.rms_norm_eps)
        self.positions = POSITIONS
        with torch.inference_mode():
            ranges = _input_ranges(model, [[*opening, *sample] for sample in samples])
            self._embedding = model.model.embed_tokens.weight.detach().to(torch.bfloat16)
            self._layers = [self._layer(layer, ranges) for layer in model.model.layers]
            head, gain = model.lm_head.weight.detach(), model.model.norm.weight.detach()
            shift = _shift(ranges[model.lm_head], head)
            self._head, self._gain = PackedLinear(head * shift), gain / shift
            positions = torch.arange(len(opening) + int(config.max_position_embeddings)).float()
            theta = float(config.rope_parameters["rope_theta"])
            angles = torch.outer(positions, theta ** (-torch.arange(0, self._width, 2) / self._width))
            self._cosine = torch.cat([angles, angles], -1).cos()
            self._sine = torch.cat([-angles, angles], -1).sin()
            self._opening = len(opening)
            hidden, self._past = self._run(torch.tensor([list(opening)]), start=0)
            self._first = self._normed(hidden, self._gain)[-1:]

    def surprisals(self, chunks: Sequence[Sequence[int]]) -> list[Surprisals]:
        """Surprisal in nats of each token of each chunk, after the opening: shapes ``(len(chunk),)``."""
        lengths = torch.tensor([len(chunk) for chunk in chunks])
        width = int(lengths.max())
        ids = torch.zeros(len(chunks), width, dtype=torch.long)
        for row, chunk in enumerate(chunks):
            ids[row, : len(chunk)] = torch.tensor(chunk)
        with torch.inference_mode():
            # Right padding under a causal mask never reaches a real position.
            states = self._first.expand(len(chunks), 1, -1)
            if width > 1:
                hidden, _ = self._run(ids[:, :-1], start=self._opening)
                after = self._normed(hidden, self._gain).view(len(chunks), width - 1, -1)
                states = torch.cat([states, after], 1)
            real = torch.arange(width) < lengths[:, None]
            found = self._cross_entropy(states[real], ids[real])
        return [part.numpy() for part in torch.split(found, lengths.tolist())]

    def _cross_entropy(self, states: Tensor, targets: Tensor) -> Tensor:
        found = []
        for part, wanted in zip(torch.split(states, HEAD_ROWS), torch.split(targets, HEAD_ROWS), strict=True):
            logits = self._head(part)
            found.append(logits.logsumexp(1) - logits.gather(1, wanted[:, None])[:, 0])
        return torch.cat(found)

    def _run(self, ids: Tensor, *, start: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Hidden states ``(rows * length, hidden)`` of ids ``(rows, length)`` at position ``start``, and each
        layer's keys and values."""
        rows, length = ids.shape
        turned = self._heads + self._groups
        cosine, sine = self._cosine[start : start + length], self._sine[start : start + length]
        mask = torch.ones(length, start + length, dtype=torch.bool).tril(start)
        x = self._embedding[ids].float().flatten(0, 1)
        kept = []
        for index, layer in enumerate(self._layers):
            mixed = layer.queries_keys_values(self._normed(x, layer.attention_gain))
            mixed = mixed.view(rows, length, -1, self._width).transpose(1, 2)
            rotated = mixed[:, :turned]
            rotated = rotated * cosine + rotated.roll(self._width // 2, -1) * sine
            keys, values = rotated[:, self._heads :], mixed[:, turned:]
            if start:
                before = (part.expand(rows, -1, -1, -1) for part in self._past[index])
                keys, values = (torch.cat(pair, 2) for pair in zip(before, (keys, values), strict=True))
            else:
                kept.append((keys, values))
            seen = scaled_dot_product_attention(
                rotated[:, : self._heads], keys, values, attn_mask=mask, enable_gqa=True
            )
            x += layer.attention_output(seen.transpose(1, 2).flatten(2).flatten(0, 1))
            gate, up = layer.gate_up(self._normed(x, layer.unit_gain)).chunk(2, 1)
            x += layer.down(silu(gate).mul_(up))
        return x, kept

    def _normed(self, x: Tensor, gain: Tensor) -> Tensor:
        return rms_norm(x, gain.shape, gain, self._epsilon)

    def _layer(self, layer: Any, ranges: dict[Any, Tensor]) -> _Layer:
        attention, unit = layer.self_attn, layer.mlp
        output, value = attention.o_proj.weight, attention.v_proj.weight
        # A value channel feeds one input of the output projection for every head of its group.
        shift = _shift(ranges[attention.o_proj], output)
        shared = shift.view(self._groups, -1, self._width).amax(1, keepdim=True)
        spread = shared.expand(-1, self._heads // self._groups, -1).flatten()
        down, up = unit.down_proj.weight, unit.up_proj.weight
        inner = _shift(ranges[unit.down_proj], down)
        mixed = torch.cat(
            [attention.q_proj.weight, attention.k_proj.weight, value / shared.flatten()[:, None]]
        )
        gated = torch.cat([unit.gate_proj.weight, up / inner[:, None]])
        before, between = _shift(ranges[attention.q_proj], mixed), _shift(ranges[unit.gate_proj], gated)
        return _Layer(
            attention_gain=layer.input_layernorm.weight / before,
            queries_keys_values=PackedLinear(mixed * before),
            attention_output=PackedLinear(output * spread),
            unit_gain=layer.post_attention_layernorm.weight / between,
            gate_up=PackedLinear(gated * between),
            down=PackedLinear(down * inner),
        )


def _shift(reach: Tensor, weight: Tensor) -> Tensor:
    """SmoothQuant's s of each input channel, its median 1. reach: largest absolute inputs, ``(inputs,)``."""
    column = weight.abs().amax(0).clamp_min(1e-5)
    shift = reach.clamp_min(1e-5) ** MIGRATION / column ** (1 - MIGRATION)
    return (shift / shift.median()).clamp(1e-2, 1e2)


def _input_ranges(model: Any, samples: Sequence[Sequence[int]]) -> dict[Any, Tensor]:
    """The largest absolute value of each input channel of each linear layer over the samples."""
    ranges: dict[Any, Tensor] = {}

    def watch(module: Any, inputs: tuple[Tensor, ...]) -> None:
        reach = inputs[0].abs().flatten(0, -2).amax(0)
        ranges[module] = torch.maximum(ranges.get(module, reach), reach)

    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [module.register_forward_pre_hook(watch) for module in linear]
    try:
        for sample in samples:
            model(input_ids=torch.tensor([list(sample)]), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return ranges
