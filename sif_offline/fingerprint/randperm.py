"""torch's CPU ``randperm`` without torch, for green lists that others made with it."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def _swap_partners(
    seed: int, size: int, count: int, generator: np.random.RandomState | None = None
) -> NDArray[np.uint32]:
    """``j_i = i + word_i % (size - i)`` for the first ``count`` steps, uint32 ``(min(count, size - 1),)``.

    torch keeps the low 32 bits of the seed alone, seeds MT19937 with them and swaps ``i`` with ``j_i``, one
    32-bit word each.
    """
    steps = max(min(count, size - 1), 0)
    # RandomState's stream is frozen for ever, and uint32 over its full range is the raw word
    generator = generator or np.random.RandomState(0)
    generator.seed(seed % 2**32)
    words = generator.randint(0, 2**32, size=steps, dtype=np.uint32)
    step = np.arange(steps, dtype=np.uint32)
    return step + words % (np.uint32(size) - step)


def torch_randperm(seed: int, size: int, *, count: int | None = None) -> NDArray[np.int64]:
    """What ``torch.randperm(size, generator=torch.Generator().manual_seed(seed))`` gives on a CPU, int64
    ``(size,)``. A GPU gives another permutation.

    Args:
        seed: any integer; torch keeps its low 32 bits.
        size: length of the permutation, below 2^32 / 20 (beyond it torch draws 64-bit words).
        count: only the first so many entries are wanted, which is proportionally quicker; None for all.
    """
    wanted = size if count is None else min(count, size)
    order = list(range(size))
    for i, j in enumerate(_swap_partners(seed, size, wanted).tolist()):
        order[i], order[j] = order[j], order[i]
    return np.array(order[:wanted], dtype=np.int64)


def in_front(
    seed: int,
    size: int,
    *,
    count: int,
    values: Iterable[int],
    generator: np.random.RandomState | None = None,
) -> NDArray[np.bool_]:
    """Which ``values`` are among the first ``count`` entries of ``torch_randperm(seed, size)``.

    No permutation is made: each value is followed through the swaps. Before step ``p`` reaches its position
    ``p``, only a swap with partner ``p`` moves it, and that puts it in front for good; step ``p`` itself
    sends it on to ``j_p``. About ``log(size)`` such hops, each one vector comparison.

    Args:
        seed: as for :func:`torch_randperm`.
        size: length of the permutation.
        count: entries that count as the front.
        values: in 0 .. size - 1.
        generator: is seeded anew and used; saves making one where many seeds are asked in a row.

    Returns:
        bool ``(len(values),)``.
    """
    partners = _swap_partners(seed, size, count, generator)
    steps = len(partners)
    answers = []
    for value in values:
        position, step, moved_to_front = int(value), 0, False
        while step < steps and not moved_to_front:
            reached = min(position, steps)
            moved_to_front = bool((partners[step:reached] == position).any())
            if position >= steps:
                break
            step, position = position + 1, int(partners[position])
            moved_to_front = moved_to_front or position == step - 1
        answers.append(moved_to_front or position < min(count, size))
    return np.array(answers, dtype=np.bool_)
