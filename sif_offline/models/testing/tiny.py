"""Tiny random models of the real classes, built from configurations alone: nothing is fetched."""

from collections.abc import Mapping
from functools import reduce
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch

TINY: Mapping[str, str] = MappingProxyType(
    {
        "llava": "sif_offline.models.testing.tiny_llava:llava",
    }
)
"""Family -> ``module:function``; the function takes no argument and returns an adapter on the CPU."""


def tiny_adapter(family: str, *, seed: int = 0) -> Any:
    """A tiny adapter of a family in :data:`TINY`, float32 on the CPU; the seed decides the weights."""
    module, _, names = TINY[family].partition(":")
    build = reduce(getattr, names.split("."), import_module(module))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


TEXT_SIZES: Mapping[str, int] = MappingProxyType(
    {
        "vocab_size": 288,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
)
"""Sizes of a tiny Llama-like text configuration over :func:`byte_tokenizer`'s ids."""


def lively(model: Any) -> Any:
    """Spread the weights so that the answer depends on the picture: random initial ones hardly let it."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "embed" not in name:
                parameter.mul_(4.0)
    return model
