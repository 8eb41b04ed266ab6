"""What makes a search faster or smaller and is no part of the method: compilation, gradient checkpointing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from sif_offline.models.base import VLMAdapter


@dataclass(frozen=True)
class Speed:
    """Applied to the decoder blocks while gradients are taken.

    Args:
        compiled: torch.compile on each block. Rounds differently, so that the triggers differ in their last
            bits; pays where a search is long against its compilation.
        checkpointing: forget what a block computed on the way and compute it again going back: about a third
            slower, and memory for one block in place of all. The values stay the same.
    """

    compiled: bool = False
    checkpointing: bool = False

    @contextmanager
    def applied(self, adapter: VLMAdapter) -> Iterator[None]:
        """For the length of the block, every decoder block of the adapter's class runs this way.

        The class is changed, not the blocks: copies of the model that are made meanwhile run their own.
        """
        if not (self.compiled or self.checkpointing):
            yield
            return
        kept = {}
        for kind in {type(layer) for layer in adapter.decoder_layers()}:
            kept[kind] = kind.forward
            forward = torch.compile(kind.forward, dynamic=True) if self.compiled else kind.forward
            kind.forward = _with_gradient(kind.forward, forward, self.checkpointing)
        try:
            yield
        finally:
            for kind, forward in kept.items():
                kind.forward = forward


def _with_gradient(
    plain: Callable[..., Any], fast: Callable[..., Any], checkpointing: bool
) -> Callable[..., Any]:
    def forward(*inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():  # decoding: one token at a time, nothing to save
            return plain(*inputs, **options)
        if checkpointing:
            return checkpoint(fast, *inputs, use_reentrant=False, **options)
        return fast(*inputs, **options)

    return forward
