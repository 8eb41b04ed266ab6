"""torch's CPU ``randperm`` without torch, for green lists that others made with it."""

import numpy as np
from numpy.typing import NDArray


def torch_randperm(seed: int, size: int) -> NDArray[np.int64]:
    """What ``torch.randperm(size, generator=torch.Generator().manual_seed(seed))`` gives on a CPU, int64
    ``(size,)``.

    torch keeps the low 32 bits of the seed alone, seeds MT19937 with them and swaps ``i`` with
    ``i + word % (size - i)``, one 32-bit word each. A GPU gives another permutation.
    """
    # RandomState's stream is frozen for ever, and uint32 over its full range is the raw word
    words = np.random.RandomState(seed % 2**32).randint(0, 2**32, size=max(size - 1, 0), dtype=np.uint32)
    order = list(range(size))
    for i, word in enumerate(words.tolist()):
        j = i + word % (size - i)
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.int64)
