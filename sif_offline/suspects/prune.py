"""Magnitude pruning: in every linear layer the smallest weights become zero (Han et al. 2015, arXiv
1506.02626, without its retraining; chain ``finetune`` behind it for that).
"""

from torch import nn
from torch.nn.utils import prune

from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.suspects.base import Progress, Stolen
from sif_offline.suspects.cache import trained_copy

VERSION = 1


def prune_linears(module: nn.Module, *, percent: int) -> None:
    """Set ``percent`` of the weights of every linear layer inside ``module`` to zero, in place."""
    for layer in [child for child in module.modules() if isinstance(child, nn.Linear)]:
        prune.l1_unstructured(layer, "weight", amount=percent / 100)  # type: ignore[no-untyped-call]
        prune.remove(layer, "weight")  # type: ignore[no-untyped-call]


def pruned(stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``prune``: ``setting`` percent of each linear layer of projector and decoder blocks."""

    def cut(model: LabVLM, processor: LabProcessor) -> LabVLM:
        prune_linears(model.projector, percent=setting)
        prune_linears(model.language_model.model.layers, percent=setting)
        return model

    return trained_copy(stolen, recipe={"name": "prune", "version": VERSION, "percent": setting}, train=cut)
