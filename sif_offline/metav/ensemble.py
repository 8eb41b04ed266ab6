"""Many frozen models asked at once: those of one architecture as one, with torch.func.vmap."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from sif_offline.metav.zoo import ZooModel


@dataclass(frozen=True, eq=False)
class _Group:
    """Models of one architecture: their places in the ensemble and their weights ``(models, ...)``."""

    places: Tensor
    models: tuple[ZooModel, ...]
    weights: dict[str, Tensor]
    run: Callable[[dict[str, Tensor], Tensor], Tensor]

    def answers(self, inputs: Tensor, chosen: Tensor | None) -> Tensor:
        """``(models, n, size)``, those at ``chosen`` alone, numbered within the group."""
        numbers = range(len(self.models)) if chosen is None else chosen.tolist()
        models = [self.models[number] for number in numbers]
        weights = self.weights if chosen is None else {n: w[chosen] for n, w in self.weights.items()}
        asked = torch.stack([model.disguise.inputs(inputs) for model in models])
        found = models[0].task.answers(vmap(self.run)(weights, asked))
        return torch.stack(
            [model.disguise.answers(own) for model, own in zip(models, found.unbind(), strict=True)]
        )


class Ensemble:
    """Frozen models that take the same inputs.

    Args:
        models: at least one, of one task.
        device: where to keep a copy of their weights.
    """

    def __init__(self, models: Sequence[ZooModel], *, device: str = "cpu") -> None:
        self.size = len(models)
        places: dict[str, list[int]] = {}
        for place, model in enumerate(models):
            places.setdefault(model.recipe.architecture, []).append(place)
        self._groups = [_group(own, [models[place] for place in own], device) for own in places.values()]

    def answers(self, inputs: Tensor, chosen: Tensor | None = None) -> Tensor:
        """What the models answer, differentiable in ``inputs``.

        Args:
            inputs: ``(n, *shape)``.
            chosen: ``(k,)`` places of the models to ask, ascending; all unless given.

        Returns:
            ``(k, n, output.size)`` in the order of the models.
        """
        found, places = [], []
        for group in self._groups:
            within = None
            asked = group.places
            if chosen is not None:
                within = torch.isin(group.places, chosen).nonzero()[:, 0]
                asked = group.places[within]
                if not len(within):
                    continue
            found.append(group.answers(inputs, within))
            places.append(asked)
        order = torch.cat(places).argsort()
        return torch.cat(found)[order.to(inputs.device)]


def _group(places: list[int], models: list[ZooModel], device: str) -> _Group:
    networks = [model.network for model in models]
    parameters, buffers = stack_module_state(networks)
    weights = {name: value.detach().to(device) for name, value in {**parameters, **buffers}.items()}
    skeleton = deepcopy(networks[0]).to("meta")

    def run(weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        answered: Tensor = functional_call(skeleton, weights, (inputs,))
        return answered

    return _Group(torch.tensor(places), tuple(models), weights, run)
