"""Steps that image processors share, differentiable, in the processors' own order of operations."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def rescale_and_normalise(
    pixels: Tensor,
    *,
    factor: float | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Tensor:
    """``(x * factor - mean) / std`` as the PIL backend of transformers rounds it.

    The product is taken in float64 and rounded to the pixels' type, the rest is done in that type: in float32
    every value is the processor's own.

    Args:
        pixels: ``(..., 3, height, width)`` float32 or float64.
        factor: ``rescale_factor``; None where the processor does not rescale.
        mean: one value a channel; None where the processor does not normalise.
        std: one value a channel.
    """
    if factor is not None:
        pixels = (pixels.double() * factor).to(pixels.dtype)
    if mean is not None and std is not None:
        shift, scale = (
            torch.tensor(list(values), dtype=pixels.dtype, device=pixels.device).view(-1, 1, 1)
            for values in (mean, std)
        )
        pixels = (pixels - shift) / scale
    return pixels


def centre_crop(pixels: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Cut out the middle ``size`` = (height, width), or surround with zeros what is smaller."""
    height, width = pixels.shape[-2:]
    pixels = surround(
        pixels,
        top=math.ceil(max(0, size[0] - height) / 2),
        bottom=max(0, size[0] - height) // 2,
        left=math.ceil(max(0, size[1] - width) / 2),
        right=max(0, size[1] - width) // 2,
    )
    # the processor places its crop by the size before padding; floor division rounds odd rests alike
    top = (height - size[0]) // 2 + math.ceil(max(0, size[0] - height) / 2)
    left = (width - size[1]) // 2 + math.ceil(max(0, size[1] - width) / 2)
    return pixels[..., top : top + size[0], left : left + size[1]]


def surround(
    pixels: Tensor, *, top: int, bottom: int, left: int, right: int, colour: Sequence[float] = (0.0, 0.0, 0.0)
) -> Tensor:
    """``(..., 3, height, width)`` with a border of ``colour``, one value a channel."""
    if not any((top, bottom, left, right)):
        return pixels
    if not any(colour):
        return functional.pad(pixels, (left, right, top, bottom))
    shift = torch.tensor(list(colour), dtype=pixels.dtype, device=pixels.device).view(-1, 1, 1)
    return functional.pad(pixels - shift, (left, right, top, bottom)) + shift


def tiles(pixels: Tensor, *, side: int) -> list[Tensor]:
    """Row by row the squares of ``side`` pixels that ``(..., 3, height, width)`` is made of."""
    height, width = pixels.shape[-2:]
    return [
        pixels[..., top : top + side, left : left + side]
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
