"""Embeddings of digits: pictures of one digit close together, of others apart (supervised contrastive loss,
Khosla et al. 2020, arXiv 2004.11362)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sif_offline.fingerprint.metav.pack import TensorInput
from sif_offline.metav.tasks.base import FitSettings
from sif_offline.metav.tasks.digits import SHAPE, load_digits
from sif_offline.metav.tasks.networks import small_networks
from sif_offline.metav.tasks.regression import Regression

SIZE = 16
TEMPERATURE = 0.1


@dataclass(frozen=True)
class Embedding(Regression):
    """See :class:`~sif_offline.metav.tasks.base.Task`; targets are classes, ``(n,)`` int64. The ``size``
    numbers of an embedding have length 1.
    """

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Supervised contrastive, nats: of each input the mean over the batch's others of its class; inputs
        that are alone of theirs count for nothing.
        """
        found = self.answers(raw)
        himself = torch.eye(len(found), dtype=torch.bool, device=found.device)
        log_share = torch.log_softmax((found @ found.T / TEMPERATURE).masked_fill(himself, -1e9), -1)
        same = ((targets[:, None] == targets) & ~himself).to(found)
        each = (same * log_share).sum(-1) / same.sum(-1).clamp_min(1)
        return -each.sum() / (same.sum(-1) > 0).sum().clamp_min(1)

    def imitation_loss(self, raw: Tensor, answers: Tensor) -> Tensor:
        """Squared distance between the embeddings."""
        return (self.answers(raw) - answers).square().sum(-1).mean()

    def answers(self, raw: Tensor) -> Tensor:
        """Scaled to length 1."""
        return nn.functional.normalize(raw, dim=-1)

    def quality(self, raw: Tensor, targets: Tensor) -> float:
        """Share of inputs whose nearest other input is of their class."""
        found = self.answers(raw)
        near = (found @ found.T).fill_diagonal_(-2).argmax(-1)
        return float((targets[near] == targets).float().mean())


DIGITS_EMBEDDING = Embedding(
    name="digits-embedding",
    input=TensorInput(shape=SHAPE, low=0, high=1),
    size=SIZE,
    architectures=small_networks(SHAPE, SIZE),
    owner_architecture="mlp-64",
    fit=FitSettings(epochs=40, batch_size=64, learning_rate=3e-3),
    load=load_digits,
)
