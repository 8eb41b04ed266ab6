"""``PIL.Image.resize`` in torch: the same whole numbers forward, a gradient backward.

Pillow resizes 8-bit pictures in two passes and rounds and clips to 0 .. 255 after each of them; its
coefficients are whole numbers over 2^22 (``src/libImaging/Resample.c``). A plain bicubic with antialiasing is
therefore off by several values a channel, and a vision tower sees other pixels than those a trigger was
searched on. Here both passes are exact sums of whole numbers in float64.

Because of the rounding in between, the order of the passes shows. Pillow always resized along the rows first;
Pillow 13 takes the columns first where the height shrinks by more than twice as many pixels as the width. The
installed Pillow is asked once which of the two it does.
"""

import math
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_PRECISION_BITS = 32 - 8 - 2
_ONE = 1 << _PRECISION_BITS


class Filter(IntEnum):
    """The antialiasing filters, numbered as ``PIL.Image.Resampling`` and image processors number them."""

    LANCZOS = 1
    BILINEAR = 2
    BICUBIC = 3


def resize(pixels: Tensor, *, size: tuple[int, int], resample: int, exact: bool = True) -> Tensor:
    """Resize as Pillow does.

    Args:
        pixels: ``(..., height, width)`` float32 or float64 with whole values in 0 .. 255.
        size: (height, width) wanted, each at least 1.
        resample: a :class:`Filter`.
        exact: Pillow's very values, with the gradient straight through the rounding and none where a value
            was clipped. False leaves the rounding out (clipping stays): the smooth function whose gradient
            that is, for finite differences.

    Returns:
        ``(..., *size)`` of the same type and device; ``pixels`` itself where the size is right already.

    Raises:
        ValueError: a filter that is not one of the three, or an empty size.
    """
    height, width = size
    if min(*size, *pixels.shape[-2:]) < 1:
        raise ValueError(f"cannot resize {tuple(pixels.shape[-2:])} to {size}: want at least one pixel")
    kind = Filter(resample)
    shrinks = pixels.shape[-2] - height
    if shrinks > 0 and shrinks > 2 * (pixels.shape[-1] - width) and _tall_goes_columns_first():
        return _along_rows(_along_columns(pixels, height, kind, exact), width, kind, exact)
    return _along_columns(_along_rows(pixels, width, kind, exact), height, kind, exact)


def _along_rows(pixels: Tensor, width: int, kind: Filter, exact: bool) -> Tensor:
    if width == pixels.shape[-1]:
        return pixels
    there, back = _matrices(pixels.shape[-1], width, kind, pixels.device)
    if exact:
        resized: Tensor = _ExactPass.apply(pixels, there, back)  # type: ignore[no-untyped-call] # torch's
        return resized
    with torch.autocast(pixels.device.type, enabled=False):
        return (_product(pixels.double(), there) / _ONE).clamp(0, 255).to(pixels.dtype)


def _along_columns(pixels: Tensor, height: int, kind: Filter, exact: bool) -> Tensor:
    if height == pixels.shape[-2]:
        return pixels
    return _along_rows(pixels.transpose(-1, -2), height, kind, exact).transpose(-1, -2)


@lru_cache(maxsize=1)
def _tall_goes_columns_first() -> bool:
    """Whether the installed Pillow resizes a tall picture along its columns first."""
    picture = np.arange(64, dtype=np.uint8).reshape(16, 4) * 37
    resized = np.asarray(Image.fromarray(picture).resize((7, 3), resample=Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(picture).double()
    by_columns = _along_rows(_along_columns(pixels, 3, Filter.BICUBIC, True), 7, Filter.BICUBIC, True)
    return bool((by_columns.numpy() == resized).all())


class _ExactPass(torch.autograd.Function):
    """One pass along the last axis: rounded and clipped forward, linear and masked backward."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, there: Tensor, back: Tensor) -> Tensor:
        # whole numbers below 2^53: exact in float64, which autocast leaves alone
        value = _product(pixels.double(), there).add_(_ONE // 2).mul_(1 / _ONE).floor_().to(pixels.dtype)
        clipped = value.clamp(0, 255)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(clipped == value, back)
        return clipped

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        unclipped, back = ctx.saved_tensors
        return (_product((gradient * unclipped).double(), back) / _ONE).to(gradient.dtype), None, None


def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """``rows @ matrix.T`` for ``(..., length)`` float64 rows."""
    if not matrix.is_sparse:
        return rows @ matrix.T
    columns = rows.movedim(-1, 0)
    product: Tensor = torch.sparse.mm(matrix, columns.reshape(len(columns), -1))
    return product.reshape(-1, *columns.shape[1:]).movedim(0, -1)


@lru_cache(maxsize=64)
def _matrices(length: int, wanted: int, kind: Filter, device: torch.device) -> tuple[Tensor, Tensor]:
    """``(wanted, length)`` and its transpose, float64.

    On the CPU sparse ones are up to ten times as fast. On an accelerator dense ones cost next to nothing, and
    sparse sums would have no fixed order.
    """
    there = _weights(length, wanted, kind)
    back = there.T.contiguous()
    if device.type == "cpu":
        return there.to_sparse(), back.to_sparse()
    return there.to(device), back.to(device)


def _weights(length: int, wanted: int, kind: Filter) -> Tensor:
    """``(wanted, length)`` float64 whole numbers: Pillow's coefficients times 2^22."""
    support, curve = _CURVES[kind]
    scale = length / wanted
    stretch = max(scale, 1.0)
    support *= stretch
    rows = torch.zeros(wanted, length, dtype=torch.float64)
    for place in range(wanted):
        centre = (place + 0.5) * scale
        first = max(0, int(centre - support + 0.5))
        last = min(length, int(centre + support + 0.5))
        inverse = 1.0 / stretch
        row = [curve((x - centre + 0.5) * inverse) for x in range(first, last)]
        total = 0.0
        for value in row:  # left to right as in C: sum() of Python 3.12 would round otherwise
            total += value
        shares = [value / total if total else value for value in row]
        whole = [int(share * _ONE + math.copysign(0.5, share)) for share in shares]
        rows[place, first:last] = torch.tensor(whole, dtype=torch.float64)
    return rows


def _triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _cubic(x: float) -> float:
    x, a = abs(x), -0.5
    if x < 1:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def _sinc(x: float) -> float:
    x *= math.pi
    return math.sin(x) / x if x else 1.0


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3 <= x < 3 else 0.0


_CURVES: dict[Filter, tuple[float, Callable[[float], float]]] = {
    Filter.BILINEAR: (1.0, _triangle),
    Filter.BICUBIC: (2.0, _cubic),
    Filter.LANCZOS: (3.0, _lanczos),
}
