"""Merging with another model: every tensor becomes a mean of two, along the line or along the sphere.

Linear: Wortsman et al. 2022, arXiv 2203.05482. SLERP: Shoemake 1985, as merging tools apply it tensor by
tensor. Both only make sense for models of one shape and one vocabulary, and work for those that came from
the same weights: a row of another tokenizer is another word, so such a partner is refused. None of the
shipped innocents has the owner's shape; the partner that a thief has is another fine-tune of what he stole.
"""

import json
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.models.digest import weights_digest
from sif_offline.suspects.base import Progress, Stolen, SuspectError
from sif_offline.suspects.cache import trained_copy

VERSION = 1
SIBLING = "narrow:100"
"""What the stolen model is merged with where no partner is named."""
_PARALLEL = 1e-6
"""Angle in radians below which the sphere is flat."""


def linear(one: Tensor, other: Tensor, share: float) -> Tensor:
    """``(1 - share) one + share other``."""
    return torch.lerp(one, other, share)


def slerp(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Spherical interpolation of two tensors taken as vectors; nearly parallel ones: linear."""
    a, b = one.double().flatten(), other.double().flatten()
    size = a.norm() * b.norm()
    if not size:
        return linear(one, other, share)
    angle = torch.arccos((a @ b / size).clamp(-1, 1))
    if angle < _PARALLEL or angle > torch.pi - _PARALLEL:
        return linear(one, other, share)
    sine = torch.sin(angle)
    mixed = torch.sin((1 - share) * angle) / sine * a + torch.sin(share * angle) / sine * b
    return mixed.view_as(one).to(one.dtype)


def merged(
    stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None, partner: str = SIBLING
) -> Stolen:
    """Alteration ``merge``: ``setting`` percent of ``partner``, linear.

    Args:
        stolen: unquantised.
        setting: percent that comes from the partner.
        seed: of the partner, where it is made here.
        progress: of the partner's training.
        partner: a lab model, a checkpoint directory, or a suspect made of ``stolen`` such as ``lora:50``.

    Raises:
        SuspectError: another shape, another vocabulary, a quantised partner.
    """
    return _merged(stolen, "merge", linear, setting, seed, progress, partner)


def slerp_merged(
    stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None, partner: str = SIBLING
) -> Stolen:
    """Alteration ``slerp``: as :func:`merged`, each tensor along the sphere."""
    return _merged(stolen, "slerp", slerp, setting, seed, progress, partner)


def _merged(
    stolen: Stolen,
    name: str,
    mean: Callable[[Tensor, Tensor, float], Tensor],
    percent: int,
    seed: int,
    progress: Progress | None,
    partner: str,
) -> Stolen:
    other, its_processor = _partner(stolen, partner, seed, progress).load()

    def mix(model: LabVLM, processor: LabProcessor) -> LabVLM:
        _refuse_unlike(model, processor, other, its_processor, partner)
        theirs: Mapping[str, Tensor] = other.state_dict()
        mixed = {key: mean(ours, theirs[key], percent / 100) for key, ours in model.state_dict().items()}
        model.load_state_dict(mixed)
        return model

    recipe = {"name": name, "version": VERSION, "percent": percent, "partner": weights_digest(other)}
    return trained_copy(stolen, recipe=recipe, train=mix)


def _partner(stolen: Stolen, partner: str, seed: int, progress: Progress | None) -> Stolen:
    from sif_offline.suspects.registry import SUSPECTS, make_suspect

    if partner.partition(":")[0] in SUSPECTS:
        made = make_suspect([partner], stolen.directory, seed=seed, progress=progress)
    else:
        made = Stolen.of(partner)
    if made.options:
        raise SuspectError(f"merge with {partner}: it is quantised")
    return made


def _refuse_unlike(
    model: LabVLM, processor: LabProcessor, other: LabVLM, its_processor: LabProcessor, partner: str
) -> None:
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    theirs = {key: tuple(tensor.shape) for key, tensor in other.state_dict().items()}
    if ours != theirs:
        differs = sorted(key for key in ours | theirs if ours.get(key) != theirs.get(key))
        raise SuspectError(
            f"merge with {partner}: another shape: {len(differs)} tensors differ, first {differs[0]} "
            f"({ours.get(differs[0])} here, {theirs.get(differs[0])} there)"
        )
    if _vocabulary(processor) != _vocabulary(its_processor):
        raise SuspectError(f"merge with {partner}: another tokenizer: row i is another word in each")


def _vocabulary(processor: LabProcessor) -> dict[str, int]:
    vocabulary: dict[str, int] = json.loads(processor.tokenizer.backend_tokenizer.to_str())["model"]["vocab"]
    return vocabulary
