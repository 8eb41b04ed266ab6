"""The adaptive fingerprint: N inputs that gradients move inside their bounds."""

from typing import Literal

import torch
from torch import Tensor, nn

from sif_offline.fingerprint.metav.pack import TensorInput
from sif_offline.metav.zoo import ZooModel

Start = Literal["data", "unsure", "noise"]
_MARGIN = 0.01
"""How far from the bounds queries start, in shares of the range: at a bound tanh passes no gradient on."""
_BATCH = 500
"""Inputs at once that the owner is asked about."""


def first_queries(owner: ZooModel, *, count: int, start: Start, seed: int) -> Tensor:
    """Inputs to begin with, float32 ``(count, *shape)``; where there are too few, some more than once.

    Args:
        owner: of the task whose inputs they are; of a task with probabilities for ``unsure``.
        count: N.
        start: ``data`` draws training inputs, ``unsure`` takes those test inputs about which the owner is
            least sure (by the entropy of his answer, most first), ``noise`` is uniform.
        seed: of the draw.
    """
    limits, data = owner.task.input, owner.task.data()
    generator = torch.Generator().manual_seed(seed)
    if start == "noise":
        return limits.low + (limits.high - limits.low) * torch.rand(
            (count, *limits.shape), generator=generator
        )
    if start == "data":
        inputs, _targets = data.part("all")
        rows = torch.randperm(len(inputs), generator=generator)
    else:
        inputs = data.test_inputs
        with torch.no_grad():
            answers = torch.cat([owner.answers(part) for part in torch.split(inputs, _BATCH)])
        rows = torch.special.entr(answers).sum(-1).argsort(descending=True, stable=True)
    return inputs[rows[torch.arange(count) % len(rows)]]


class Queries(nn.Module):
    """``low + (high - low) (tanh(w) + 1) / 2``, float32 ``(N, *shape)`` (Carlini & Wagner 2017).

    ``low`` and ``high`` are the input's bounds, or as near to where a query began as ``reach`` says.

    Args:
        first: ``(N, *shape)``, where they begin.
        limits: bounds of the input.
        reach: how far a value may move from its start, as a share of the input's range, in (0, 1]; so that
            float32 can tell, well above 1e-6.
    """

    _low: Tensor
    _high: Tensor

    def __init__(self, first: Tensor, *, limits: TensorInput, reach: float) -> None:
        super().__init__()
        width = limits.high - limits.low
        first = first.clamp(limits.low, limits.high)
        low = (first - reach * width).clamp_min(limits.low)
        high = (first + reach * width).clamp_max(limits.high)
        share = ((first - low) / (high - low)).clamp(_MARGIN, 1 - _MARGIN)
        self.raw = nn.Parameter(torch.atanh(2 * share - 1))
        self.register_buffer("_low", low, persistent=False)
        self.register_buffer("_high", high, persistent=False)

    def forward(self) -> Tensor:
        """The queries as they are now."""
        inside = self._low + (self._high - self._low) * (torch.tanh(self.raw) + 1) / 2
        return inside.clamp(self._low, self._high)
