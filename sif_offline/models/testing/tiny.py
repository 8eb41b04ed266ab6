"""Tiny random models of the real classes, built from configurations alone: nothing is fetched."""

from collections.abc import Mapping
from functools import reduce
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch

TINY: Mapping[str, str] = MappingProxyType(
    {
        "gemma3": "sif_offline.models.testing.tiny_gemma3:gemma3",
        "llava": "sif_offline.models.testing.tiny_llava:llava",
        "llava-next": "sif_offline.models.testing.tiny_llava:llava_next",
        "llava-onevision": "sif_offline.models.testing.tiny_llava:llava_onevision",
        "qwen2-vl": "sif_offline.models.testing.tiny_qwen:qwen2_vl",
        "qwen2.5-vl": "sif_offline.models.testing.tiny_qwen:qwen2_5_vl",
        "qwen3-vl": "sif_offline.models.testing.tiny_qwen:qwen3_vl",
        "internvl": "sif_offline.models.testing.tiny_internvl:internvl",
        "idefics3": "sif_offline.models.testing.tiny_idefics:idefics3",
        "smolvlm": "sif_offline.models.testing.tiny_idefics:smolvlm",
    }
)
"""Family -> ``module:function``; the function takes no argument and returns an adapter on the CPU."""


def tiny_adapter(family: str, *, seed: int = 0) -> Any:
    """A tiny adapter of a family in :data:`TINY`, float32 on the CPU; the seed decides the weights."""
    module, _, names = TINY[family].partition(":")
    build: Any = reduce(getattr, names.split("."), import_module(module))
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
    """Spread the weights so that the answer depends on the picture: initial ones hardly let it.

    A matrix that starts as zeros (Gemma 3's projection of pictures) is drawn.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and not bool(parameter.any()):
                parameter.normal_(std=0.3)
            elif parameter.ndim >= 2 and "embed" not in name:
                parameter.mul_(4.0)
    return model
