"""The training loop that the trained suspects share."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sif_offline.lab.batches import Batch, TurnSampler
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.lab.train import batch_loss
from sif_offline.suspects.base import Progress, SuspectError
from sif_offline.suspects.own_data import OwnData

BatchLoss = Callable[[LabVLM, Batch, Tensor, bool], Tensor]
"""loss(model, batch, features ``(photos, cells, 1280)``, whether the photos are mirrored) -> nats a token."""


def taught(model: LabVLM, batch: Batch, features: Tensor, mirror: bool) -> Tensor:
    """Cross entropy of the batch's own answers."""
    return batch_loss(model, batch, features, mirror=mirror, device="cpu")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """AdamW with a linear warm-up over a tenth of the steps and a cosine to zero, in float32."""

    steps: int
    learning_rate: float
    batch_size: int = 8
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SuspectError(f"{self.steps} steps of training: at least 1")


def train_on(
    model: LabVLM,
    processor: LabProcessor,
    data: OwnData,
    *,
    parameters: Sequence[nn.Parameter],
    settings: TrainSettings,
    loss: BatchLoss = taught,
    progress: Progress | None = None,
) -> list[float]:
    """Train ``parameters`` of ``model`` in place on turns made of ``data``; the loss of each step in nats."""
    rng = random.Random(settings.seed)
    batches = TurnSampler(rows=data.rows, processor=processor, rng=rng).batches(
        batch_size=settings.batch_size
    )
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    losses: list[float] = []
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _factor(step, settings.steps)
        value = loss(model, next(batches), data.features, rng.random() < 0.5)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(value.detach()))
        if progress is not None:
            progress(step + 1, settings.steps, losses[-1])
    return losses


def _factor(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
