"""RFO of SIF (arXiv 2604.17041): the loss under the worst small drift of the decoder's activations.

eps_l = rho g_l / sqrt(sum_l ||g_l||^2) with g_l = dL/dh_l, over all chosen layers together and for each
trigger on its own; a second pass adds eps_l to h_l. The gradients are those of one live graph: nothing is
detached between layers (the official code detaches, so that only the last layer gets one). eps is added in
float32.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def captured_states(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the hidden state behind each layer, in order, still on the graph."""
    states: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def drifted_states(layers: Sequence[nn.Module], drifts: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Add ``drifts[l]`` behind layer l; the list receives what was really added, float32, detached."""
    realised: list[Tensor] = []

    def hook_of(drift: Tensor) -> Callable[[nn.Module, Any, Any], Any]:
        def add(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            state = output[0] if isinstance(output, tuple) else output
            moved = state.float() + drift
            realised.append((moved - state.float()).detach())
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return add

    handles = [
        layer.register_forward_hook(hook_of(drift)) for layer, drift in zip(layers, drifts, strict=True)
    ]
    try:
        yield realised
    finally:
        for handle in handles:
            handle.remove()


def worst_drift(loss: Tensor, states: Sequence[Tensor], *, rho: float) -> list[Tensor]:
    """The drift of joint norm rho that raises the loss fastest, to first order.

    Args:
        loss: scalar, a sum over the batch of losses that do not touch one another's states.
        states: hidden states on the loss's graph, ``(batch, length, hidden)`` each.
        rho: joint norm over all layers, for each member of the batch.

    Returns:
        One float32 tensor a state, detached; all zero for a member without a gradient.
    """
    return drifts_of(torch.autograd.grad(loss, list(states)), rho=rho)


def drifts_of(gradients: Sequence[Tensor], *, rho: float) -> list[Tensor]:
    """The drift of joint norm rho along gradients that are known already, as :func:`worst_drift` gives it."""
    gradients = [gradient.float() for gradient in gradients]
    squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0)
    scale = rho / squares.sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    return [gradient * scale[:, None, None] for gradient in gradients]
