"""How many triggers fit into a step: tried out on CUDA, reckoned from memory on the CPU."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sif_offline.forging.optimiser import Batch
from sif_offline.forging.pixels import pixel_tensor
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.speed import Speed
from sif_offline.models.base import VLMAdapter

CPU_LIMIT = 16
"""More triggers a step gain nothing on a CPU (docs/benchmarks-forge.md)."""
CUDA_LIMIT = 64
MEMORY_SHARE = 0.5
"""Of what is free: decoding, the judge's answers and other programs want memory too."""


@dataclass(frozen=True)
class Fit:
    """What was found.

    Args:
        batch_size: triggers a step, at least 1.
        checkpointing: whether even one trigger fits only with gradient checkpointing.
        bytes_each: what the graph of one trigger holds, in bytes; None where it was tried out instead.
    """

    batch_size: int
    checkpointing: bool
    bytes_each: int | None


def fitting_batch_size(
    adapter: VLMAdapter,
    *,
    settings: ForgeSettings,
    image: Image.Image,
    workers: int = 1,
    limit: int | None = None,
    free_bytes: int | None = None,
) -> Fit:
    """The largest batch that memory holds.

    One gradient step is taken on a stand-in text of the longest answer's length. The search is not told how
    long the teachers will be.

    Args:
        adapter: the owner.
        settings: of the run; its own ``batch_size`` plays no part.
        image: a photo of the run.
        workers: that share this machine's memory (CPU only; a GPU is one worker's alone).
        limit: at most so many; by default :data:`CPU_LIMIT` or :data:`CUDA_LIMIT`.
        free_bytes: memory to share out; measured when not given.

    Returns:
        A batch size of at least 1, even where memory is shorter than that.
    """
    if adapter.device.type == "cuda":
        return _tried(adapter, settings, image, limit or CUDA_LIMIT)
    free = (free_memory() if free_bytes is None else free_bytes) * MEMORY_SHARE / workers
    each = _marginal_bytes(adapter, settings, image, Speed())
    if each <= free:
        return Fit(int(min(limit or CPU_LIMIT, free // each)), False, each)
    smaller = _marginal_bytes(adapter, settings, image, Speed(checkpointing=True))
    return Fit(1, True, smaller)


def free_memory() -> int:
    """Bytes that this process may still take: the machine's, or its control group's where that is less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(rows["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        most, now = (group / "memory.max").read_text(), (group / "memory.current").read_text()
        free = min(free, int(most) - int(now))
    except (OSError, ValueError):  # no such group, or "max"
        pass
    return max(0, free)


def _tried(adapter: VLMAdapter, settings: ForgeSettings, image: Image.Image, limit: int) -> Fit:
    for checkpointing in (False, True):
        size = 0
        while (size or 0.5) * 2 <= limit and _fits(
            adapter, settings, image, int((size or 0.5) * 2), checkpointing
        ):
            size = int((size or 0.5) * 2)
        if size:
            return Fit(size, checkpointing, None)
    return Fit(1, True, None)


def _fits(
    adapter: VLMAdapter, settings: ForgeSettings, image: Image.Image, size: int, checkpointing: bool
) -> bool:
    try:
        _step(adapter, settings, image, size, Speed(checkpointing=checkpointing))
        # the same again on the side: decoding, fragments of memory, a longer text
        return torch.cuda.mem_get_info(adapter.device)[0] > 0.1 * torch.cuda.max_memory_allocated(
            adapter.device
        )
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()


def _marginal_bytes(adapter: VLMAdapter, settings: ForgeSettings, image: Image.Image, speed: Speed) -> int:
    """What a second trigger adds to the tensors that the graph saves: weights, saved once, cancel out."""
    one, two = (_saved_bytes(adapter, settings, image, size, speed) for size in (1, 2))
    return max(1, two - one)


def _saved_bytes(
    adapter: VLMAdapter, settings: ForgeSettings, image: Image.Image, size: int, speed: Speed
) -> int:
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    def same(tensor: Any) -> Any:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, same):
        _step(adapter, settings, image, size, speed)
    return sum(seen.values())


def _step(adapter: VLMAdapter, settings: ForgeSettings, image: Image.Image, size: int, speed: Speed) -> None:
    text = _stand_in(adapter)
    green = torch.zeros(size, adapter.vocab_size, dtype=torch.bool)
    green[:, ::2] = True
    batch = Batch(adapter, prompt=settings.prompts[0], teachers=[text] * size, green=green, settings=settings)
    with speed.applied(adapter):
        batch.gradient(pixel_tensor([image] * size).to(adapter.device))


def _stand_in(adapter: VLMAdapter) -> Sequence[int]:
    plain = [i for i in range(adapter.vocab_size) if i not in adapter.special_ids]
    return [plain[(7 * place) % len(plain)] for place in range(adapter.rules.max_new_tokens)]
