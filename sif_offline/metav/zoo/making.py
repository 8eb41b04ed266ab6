"""A recipe becomes a model."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from sif_offline.metav.tasks.base import Task
from sif_offline.metav.zoo.attacks import ATTACKS, Theft, fit_settings
from sif_offline.metav.zoo.fitting import fit, fresh
from sif_offline.metav.zoo.model import ZooModel
from sif_offline.metav.zoo.recipe import Recipe

States = list[dict[str, Tensor]]
TRAIN = "train"


def make_model(
    task: Task, recipe: Recipe, *, parent: ZooModel | None, device: str = "cpu"
) -> tuple[ZooModel, States]:
    """Train or steal the model of a recipe.

    Args:
        task: the recipe's.
        recipe: what to make.
        parent: the stolen model; None for a recipe without a parent.
        device: where to train; the model returned is on the CPU.

    Returns:
        The model, and ``recipe.checkpoints`` states of its training at equal steps through its second half,
        the end left out.
    """
    inputs, targets = (tensor.to(device) for tensor in task.data().part(recipe.part))
    kept: States = []
    note = _checkpoints(recipe, kept)
    if parent is None:
        network = fresh(task.architectures[recipe.architecture], recipe.seed).to(device)
        fit(
            network,
            inputs,
            lambda raw, rows: task.loss(raw, targets[rows]),
            settings=fit_settings(recipe),
            seed=recipe.seed,
            after_epoch=lambda _epoch: note(network),
        )
    else:
        stolen = deepcopy(parent.network).to(device)
        network = ATTACKS[recipe.kind](Theft(task, recipe, stolen, inputs, targets, note))
    return ZooModel(task, recipe, network.cpu()), kept


def _checkpoints(recipe: Recipe, kept: States) -> Callable[[nn.Module], None]:
    epochs = int(recipe.settings.get("epochs", 0))
    wanted = {
        epochs // 2 + round(number * (epochs - epochs // 2) / (recipe.checkpoints + 1))
        for number in range(1, recipe.checkpoints + 1)
    } - {epochs}
    done = 0

    def note(network: nn.Module) -> None:
        nonlocal done
        done += 1
        if done in wanted:
            kept.append({name: value.detach().cpu().clone() for name, value in network.state_dict().items()})

    return note


def model_of(task: Task, recipe: Recipe, state: dict[str, Tensor]) -> ZooModel:
    """The model of that recipe with these weights. Raises ``RuntimeError``: they do not fit."""
    with torch.device("meta"):
        network = task.architectures[recipe.architecture]()
    network.load_state_dict(state, assign=True)
    return ZooModel(task, recipe, network)
