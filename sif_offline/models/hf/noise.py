"""Copies of a model with noise on its decoder."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def noisy_copy(model: Any, layers: Sequence[nn.Module], *, noise: float, seed: int) -> Any:
    """A copy of ``model`` that shares all but the matrices of ``layers``.

    Args:
        model: left as it is.
        layers: the decoder's blocks, modules of the model.
        noise: added noise over each matrix's own deviation; 0 adds none.
        seed: of the noise; the draw is the device's own, so a CPU and a GPU draw differently.
    """
    names = {id(matrix) for layer in layers for matrix in layer.parameters() if matrix.ndim == 2}
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    copied = copy.deepcopy(model, {id(t): t for t in tensors.values() if id(t) not in names})
    own = [name for name, tensor in tensors.items() if id(tensor) in names]
    parameters = dict(copied.named_parameters())
    device = next(iter(parameters.values())).device
    generator = torch.Generator(device).manual_seed(seed)
    for name in own if noise else ():
        matrix = parameters[name]
        draw = torch.randn(matrix.shape, generator=generator, device=device)
        matrix.add_((draw * matrix.float().std() * noise).to(matrix.dtype))
    return copied
