"""Serve a copy with fewer bits: what a thief does first, because it is free.

Linear layers of the projector and the decoder are replaced, as transformers and bitsandbytes do it for any
model; embeddings and convolutions keep their precision.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from transformers import BitsAndBytesConfig

from sif_offline.suspects.base import Progress, Stolen, SuspectError
from sif_offline.suspects.quiet import quiet_bitsandbytes

if TYPE_CHECKING:
    from sif_offline.lab.modeling import LabVLM
    from sif_offline.lab.processing import LabProcessor


def quantize(name: str | Path, *, bits: Literal[4, 8]) -> "tuple[LabVLM, LabProcessor]":
    """A lab model or checkpoint directory, loaded with ``bits``-bit linear layers on the CPU.

    Args:
        name: a lab model's name or a directory.
        bits: 4 = NF4 (Dettmers et al. 2023, arXiv 2305.14314), 8 = LLM.int8() (Dettmers et al. 2022,
            arXiv 2208.07339).

    Raises:
        SuspectError: another number of bits.
        LabModelError: no such model.
    """
    return quantized(Stolen.of(name), bits=bits).load()


def quantized(stolen: Stolen, *, bits: int, kind: Literal["nf4", "fp4"] = "nf4") -> Stolen:
    """The same checkpoint, loaded with fewer bits; ``kind`` is the number format of 4 bits."""
    if bits not in (4, 8):
        raise SuspectError(f"{bits} bits: quantize to 4 or 8")
    if stolen.options:
        raise SuspectError(f"{stolen.directory}: already quantised")
    quiet_bitsandbytes()
    config = BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type=kind,
        bnb_4bit_compute_dtype=torch.float32,
    )
    return replace(stolen, options={"quantization_config": config, "device_map": "cpu"})


def to_4bit(stolen: Stolen, *, setting: int = 0, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``4bit``."""
    return quantized(stolen, bits=4)


def to_fp4(stolen: Stolen, *, setting: int = 0, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``fp4``."""
    return quantized(stolen, bits=4, kind="fp4")


def to_8bit(stolen: Stolen, *, setting: int = 0, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``8bit``."""
    return quantized(stolen, bits=8)
