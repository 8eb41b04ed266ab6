"""Classification: networks give logits, models answer with probabilities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sif_offline.fingerprint.metav.pack import Output, TensorInput
from sif_offline.metav.tasks.base import FitSettings, TaskData


@dataclass(frozen=True)
class Classification:
    """See :class:`~sif_offline.metav.tasks.base.Task`; targets are ``(n,)`` int64.

    Attributes:
        load: gives the data; a function of a module, so that the task can be sent to other processes.
        classes: number of them.
    """

    name: str
    input: TensorInput
    classes: int
    architectures: Mapping[str, Callable[[], nn.Module]]
    owner_architecture: str
    fit: FitSettings
    load: Callable[[], TaskData]

    @property
    def output(self) -> Output:
        """A probability a class."""
        return Output(kind="probabilities", size=self.classes)

    def data(self) -> TaskData:
        """See :class:`~sif_offline.metav.tasks.base.Task`."""
        return self.load()

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, in nats."""
        return nn.functional.cross_entropy(raw, targets)

    def imitation_loss(self, raw: Tensor, answers: Tensor) -> Tensor:
        """Cross-entropy against the victim's probabilities (Hinton et al. 2015, arXiv 1503.02531)."""
        return nn.functional.cross_entropy(raw, answers)

    def answers(self, raw: Tensor) -> Tensor:
        """Softmax."""
        return torch.softmax(raw, dim=-1)

    def quality(self, raw: Tensor, targets: Tensor) -> float:
        """Accuracy."""
        return float((raw.argmax(-1) == targets).float().mean())
