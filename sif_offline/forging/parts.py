"""A batch in parts: on the CPU a step is faster over a few triggers at a time than over all of them at once.

What a few leave behind on the way in is still in the cache on the way back, and texts of like length stand
together, so that less is padded. A GPU takes the batch whole.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CPU_PART = 3
"""Triggers in a part, at most."""


def parts_of(lengths: Sequence[int], *, device: torch.device) -> list[list[int]]:
    """Which triggers stand together: places in the batch, shortest texts first, parts as even as they go.

    Args:
        lengths: tokens that each trigger's texts are padded to.
        device: where the batch is computed.
    """
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    count = -(-len(order) // CPU_PART) if device.type == "cpu" else 1
    return [part.tolist() for part in torch.tensor(order).tensor_split(count)]


def put_together(pieces: Sequence[Tensor], parts: Sequence[Sequence[int]], *, copies: int = 1) -> Tensor:
    """Rows of the parts in the order of the batch.

    Args:
        pieces: ``(copies * len(part), ...)`` each: all of a part's first copies, then all of its second ones.
        parts: from :func:`parts_of`.
        copies: rows a trigger.

    Returns:
        ``(copies * batch, ...)``, in the same way.
    """
    whole = sum(len(part) for part in parts)
    rows = [copy * whole + place for part in parts for copy in range(copies) for place in part]
    joined = torch.cat(list(pieces))
    return torch.empty_like(joined).index_copy(0, torch.tensor(rows, device=joined.device), joined)
