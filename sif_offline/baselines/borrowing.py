"""What belongs to the model and is changed for a while: its weights, and what its token embedding gives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sif_offline.models.base import VLMAdapter


def model_of(adapter: VLMAdapter) -> Any:
    """The adapter's ``nn.Module``, a transformers model."""
    return adapter.model  # type: ignore[attr-defined] # every adapter has one


def processor_of(adapter: VLMAdapter) -> Any:
    """The adapter's transformers processor."""
    return adapter.processor  # type: ignore[attr-defined] # every adapter has one


@contextmanager
def borrowed_weights(adapter: VLMAdapter) -> Iterator[list[nn.Parameter]]:
    """The parameters of the decoder's blocks, free to be changed in place until the context ends.

    The whole model and the decoder's arithmetic are float32 meanwhile: in bfloat16 a weight of .02 does not
    see a step of 5e-7. Parameters get other storage and take their own, untouched, back at the end.

    Args:
        adapter: any; its ``model`` is the ``nn.Module``.
    """
    lent = {id(p): p for layer in adapter.decoder_layers() for p in layer.parameters()}
    own = [(p, p.data) for p in model_of(adapter).parameters() if p.is_floating_point()]
    try:
        for parameter, weights in own:
            copied = id(parameter) in lent and weights.dtype == torch.float32
            parameter.data = weights.clone() if copied else weights.float()
        yield list(lent.values())
    finally:
        for parameter, weights in own:
            parameter.data = weights


@contextmanager
def embeddings_changed(adapter: VLMAdapter, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Everything that the decoder's token embedding gives goes through ``change`` until the context ends.

    Args:
        adapter: any.
        change: ``(batch, length, hidden)`` to the same shape and type.
    """

    def after(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return change(output)

    hook = model_of(adapter).get_input_embeddings().register_forward_hook(after)
    try:
        yield
    finally:
        hook.remove()
