"""A model of the zoo: a network, and what stands between it and its callers."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from sif_offline.metav.tasks.base import Task
from sif_offline.metav.zoo.disguise import Disguise
from sif_offline.metav.zoo.recipe import Recipe


@dataclass(frozen=True, eq=False)
class ZooModel:
    """A frozen model.

    Attributes:
        network: in evaluation mode, without gradients.
    """

    task: Task
    recipe: Recipe
    network: nn.Module

    def __post_init__(self) -> None:
        self.network.requires_grad_(False).eval()

    @cached_property
    def disguise(self) -> Disguise:
        """What changes inputs and answers on their way."""
        return Disguise.of(self.recipe, self.task.output)

    def answers(self, inputs: Tensor) -> Tensor:
        """What a caller gets, ``(n, output.size)`` for inputs ``(n, *shape)``; differentiable in them."""
        return self.disguise.answers(self.task.answers(self.network(self.disguise.inputs(inputs))))

    def quality(self) -> float:
        """Of the network on the task's test data, undisguised."""
        data = self.task.data()
        device = next(self.network.parameters()).device
        with torch.no_grad():
            raw = self.network(data.test_inputs.to(device))
        return self.task.quality(raw.cpu(), data.test_targets)
