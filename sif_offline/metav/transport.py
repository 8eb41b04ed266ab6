"""What may happen to a query on its way to a model, in training: the fingerprint learns to survive it."""

import re

import torch
from torch import Tensor

from sif_offline.fingerprint.metav.pack import TensorInput
from sif_offline.metav.zoo.disguise import straight_through

_WAY = re.compile(r"(noise)-(0?\.[0-9]+)|(levels)-([1-9][0-9]{0,4})|(shift)-([1-9])")
WAYS = "noise-SHARE, levels-COUNT or shift-PIXELS"


def check_transport(way: str) -> str:
    """``way`` itself.

    ``noise-SHARE`` adds normal noise of that share of the input's range, ``levels-COUNT`` rounds to so many
    equal steps (255: a picture of 8 bits), ``shift-PIXELS`` moves a picture by up to so many pixels along its
    last two axes, what leaves on one side coming back on the other.

    Raises:
        ValueError: any other word.
    """
    if not _WAY.fullmatch(way):
        raise ValueError(f"transport {way!r}: {WAYS}")
    return way


def transported(queries: Tensor, way: str, limits: TensorInput, generator: torch.Generator) -> Tensor:
    """Queries ``(N, *shape)`` as they arrive, inside their bounds, with the gradient of what was sent.

    Args:
        queries: what is sent.
        way: see :func:`check_transport`.
        limits: bounds of the input.
        generator: the only source of chance, on the CPU.
    """
    name, _, number = check_transport(way).partition("-")
    width = limits.high - limits.low
    if name == "noise":
        noise = torch.randn(queries.shape, generator=generator).to(queries)
        return (queries + float(number) * width * noise).clamp(limits.low, limits.high)
    if name == "levels":
        steps = (queries - limits.low) / width * int(number)
        return straight_through(queries, steps.round() / int(number) * width + limits.low)
    most = int(number)
    axes = (-2, -1)[-min(2, len(limits.shape)) :]
    moves = torch.randint(-most, most + 1, (len(axes),), generator=generator).tolist()
    return torch.roll(queries, moves, dims=axes)
