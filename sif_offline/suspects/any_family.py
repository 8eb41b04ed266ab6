"""Alterations that any model of transformers takes, in place: the decoder's linear layers as they are loaded.

Training, merging and vocabularies are the lab model's; of another family a thief's checkpoint is named as the
row's ``source``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from sif_offline.models.base import VLMAdapter
from sif_offline.suspects.base import SuspectError
from sif_offline.suspects.prune import prune_linears
from sif_offline.suspects.quiet import quiet_bitsandbytes
from sif_offline.suspects.registry import Step, parse_step


def altered(adapter: VLMAdapter, weights: Sequence[str]) -> VLMAdapter:
    """``adapter`` itself, its decoder's weights altered as ``weights`` says, and its name and digest with it.

    Raises:
        SuspectError: an alteration that only a lab model can go through, or one behind a quantisation.
    """
    steps = [parse_step(part) for part in weights]
    for step in steps:
        if step.name not in _IN_PLACE:
            raise SuspectError(
                f"suspect {step.name!r} of {adapter.name}: of another family than lab only "
                f"{', '.join(_IN_PLACE)} can be made; name a checkpoint as its source"
            )
    quantised = False
    for step in steps:
        if quantised:
            raise SuspectError(f"{adapter.name}: already quantised")
        for layer in adapter.decoder_layers():
            _IN_PLACE[step.name](layer, step)
        quantised = step.name != "prune"
    if steps:
        adapter.name = "+".join([adapter.name, *weights])
        adapter.weights_sha256 = ""  # that of the files would be a lie
    return adapter


def _prune(layer: nn.Module, step: Step) -> None:
    prune_linears(layer, percent=step.setting)


def _quantise(layer: nn.Module, step: Step, *, kind: str) -> None:
    quiet_bitsandbytes()
    for parent, name, linear in list(_linears(layer)):
        setattr(parent, name, _small(linear, kind))


def _linears(layer: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in layer.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                yield parent, name, child


def _small(linear: nn.Linear, kind: str) -> nn.Module:
    from bitsandbytes import nn as bnb

    sizes: tuple[Any, ...] = (linear.in_features, linear.out_features, linear.bias is not None)
    weight, device = linear.weight.detach(), linear.weight.device
    made: nn.Module
    if kind == "int8":
        made = bnb.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=6.0)
        made.weight = bnb.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
    else:  # without a second quantisation of the blocks' scales, as transformers does it unless told
        plain: dict[str, Any] = {"compress_statistics": False, "quant_type": kind}
        made = bnb.Linear4bit(*sizes, compute_dtype=weight.dtype, **plain)
        made.weight = bnb.Params4bit(weight.cpu(), requires_grad=False, **plain)
    if linear.bias is not None:
        made.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
    return made.to(torch.device(device)).eval().requires_grad_(False)


_IN_PLACE: Mapping[str, Callable[[nn.Module, Step], None]] = MappingProxyType(
    {
        "4bit": partial(_quantise, kind="nf4"),
        "fp4": partial(_quantise, kind="fp4"),
        "8bit": partial(_quantise, kind="int8"),
        "prune": _prune,
    }
)
