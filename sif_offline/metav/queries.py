"""The adaptive fingerprint: N inputs that gradients move inside their bounds."""

import torch
from torch import Tensor, nn

from sif_offline.metav.tasks.base import Task

_MARGIN = 0.01
"""How far from the bounds queries start, in shares of the range: at a bound tanh passes no gradient on."""


class Queries(nn.Module):
    """``low + (high - low) (tanh(w) + 1) / 2``, float32 ``(N, *shape)`` (Carlini & Wagner 2017).

    Args:
        task: whose inputs they are.
        count: N.
        start: ``data`` begins with training inputs, ``noise`` with uniform noise.
        seed: of the start.
    """

    def __init__(self, task: Task, *, count: int, start: str, seed: int) -> None:
        super().__init__()
        self._low, self._high = task.input.low, task.input.high
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand((count, *task.input.shape), generator=generator)
        if start == "data":
            inputs, _targets = task.data().part("all")
            rows = torch.randperm(len(inputs), generator=generator)[:count]
            rows = rows[torch.arange(count) % len(rows)]
            drawn = (inputs[rows] - self._low) / (self._high - self._low)
        self.raw = nn.Parameter(torch.atanh(2 * drawn.clamp(_MARGIN, 1 - _MARGIN) - 1))

    def forward(self) -> Tensor:
        """The queries as they are now."""
        inside = self._low + (self._high - self._low) * (torch.tanh(self.raw) + 1) / 2
        return inside.clamp(self._low, self._high)
