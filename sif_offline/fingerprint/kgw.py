"""Seeds and green lists of Kirchenbauer et al. (arXiv 2301.10226, 2306.04634), as lm-watermarking makes them
on a CPU.

A pseudorandom function turns the key and a window of token ids into an integer; the list is the front of
torch's CPU permutation seeded with that integer modulo ``2^64 - 1``, of which torch keeps the low 32 bits. On
a GPU the reference code makes other lists. The functions are those of ``alternative_prf_schemes.py`` there;
the code here is our own and needs no torch.

For peers' data only: two keys, or two contexts, whose seeds agree in 32 bits have the same list, so a search
through every list of a scheme takes hours.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.randperm import torch_randperm

HASH_KEY = 15485863
"""The key that the reference code ships, the millionth prime."""
_TABLE_SEED, _TABLE_SIZE = 2971215073, 1_000_003


@lru_cache(maxsize=1)
def hash_table() -> NDArray[np.int64]:
    """The reference code's table, int64 ``(1_000_003,)``, read-only; made on first use in half a
    second.
    """
    table = torch_randperm(_TABLE_SEED, _TABLE_SIZE)
    table.setflags(write=False)
    return table


def hashint(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """``table[value mod 1_000_003] + 1``, in 1 .. 1_000_003, the remainder never negative; shape as given."""
    return hash_table()[values % _TABLE_SIZE] + 1


def _simple_0(key: int, windows: NDArray[np.int64]) -> list[int]:
    return [key] * len(windows)


def _simple_1(key: int, windows: NDArray[np.int64]) -> list[int]:
    # Python's integers there, so no wrapping here
    return [key * token for token in windows[:, -1].tolist()]


def _minhash(key: int, windows: NDArray[np.int64]) -> list[int]:
    seeds: list[int] = hashint(np.array([key]) * windows).min(axis=1).tolist()
    return seeds


def _anchored_minhash(key: int, windows: NDArray[np.int64]) -> list[int]:
    # int64 arrays wrap as torch's do
    hashed = hashint(windows)
    seeds: list[int] = (np.array([key]) * hashed * hashed[:, -1:]).min(axis=1).tolist()
    return seeds


@dataclass(frozen=True)
class KgwScheme:
    """One pseudorandom function.

    Attributes:
        context_width: tokens in a window.
        self_salted: whether the candidate token is the last of its window, and not the one after it.
        prf: key and windows int64 ``(n, context_width)`` to ``n`` integers.
    """

    context_width: int
    self_salted: bool
    prf: Callable[[int, NDArray[np.int64]], list[int]]

    @property
    def skipped(self) -> int:
        """Tokens at the start of a text that no full window precedes."""
        return self.context_width - self.self_salted


KGW_SCHEMES: MappingProxyType[str, KgwScheme] = MappingProxyType(
    {
        "kgw-simple-0": KgwScheme(0, False, _simple_0),
        "kgw-simple-1": KgwScheme(1, False, _simple_1),
        "kgw-minhash": KgwScheme(4, False, _minhash),
        "kgw-anchored-minhash": KgwScheme(4, True, _anchored_minhash),
    }
)


def kgw_key(key: bytes | int) -> int:
    """The signed 64-bit integer that the schemes multiply by.

    Integers, and the 8 bytes of :func:`~sif_offline.fingerprint.keys.int_key`, stand for themselves. Other
    key bytes, which the reference code does not know, become the first 8 bytes of their sha256.

    Raises:
        OverflowError: an integer that does not fit in 64 bits.
    """
    if isinstance(key, int):
        key = key.to_bytes(8, "little", signed=True)
    elif len(key) != 8:
        key = hashlib.sha256(key).digest()[:8]
    return int.from_bytes(key, "little", signed=True)


def kgw_seeds(key: int, windows: NDArray[np.int64], scheme: str) -> list[int]:
    """The seeds as torch's generator keeps them, each in 0 .. 2^32 - 1.

    Args:
        key: signed 64-bit.
        windows: token ids, int64 ``(n, context_width)``.
        scheme: one of :data:`KGW_SCHEMES`.
    """
    return [value % (2**64 - 1) % 2**32 for value in KGW_SCHEMES[scheme].prf(key, windows)]


def kgw_key_free(windows: NDArray[np.int64], seeds: Sequence[int], scheme: str) -> NDArray[np.bool_]:
    """Which of the windows have these seeds whatever the key, bool ``(n,)``.

    ``kgw-simple-1`` after token 0 (the seed is key times 0), ``kgw-minhash`` where the minimum is token 0's,
    and ``kgw-anchored-minhash`` where the two hashes multiply to a multiple of 2^32, of which torch keeps
    nothing but the sign (for about two token ids in a hundred thousand).

    Args:
        windows: token ids, int64 ``(n, context_width)``.
        seeds: what :func:`kgw_seeds` made of them under some key.
        scheme: one of :data:`KGW_SCHEMES`.
    """
    free = np.zeros(len(windows), dtype=np.bool_)
    if scheme == "kgw-simple-1":
        free = windows[:, -1] == 0
    elif scheme == "kgw-minhash":
        of_zero = int(hash_table()[0]) + 1
        free = (windows == 0).any(axis=1) & (np.array(seeds) == of_zero)
    elif scheme == "kgw-anchored-minhash":
        hashed = hashint(windows)
        lost = (hashed * hashed[:, -1:] % 2**32 == 0).any(axis=1)
        free = lost & np.isin(seeds, (0, 2**32 - 1))
    return free


def kgw_mask(
    key: int, vocab_size: int, greens: int, scheme: str, context: Sequence[int]
) -> NDArray[np.bool_]:
    """The first ``greens`` ids of the permutation, as a mask bool ``(vocab_size,)``; ``context`` as wide as
    the scheme asks.
    """
    (seed,) = kgw_seeds(key, np.array([context], dtype=np.int64), scheme)
    mask = np.zeros(vocab_size, dtype=np.bool_)
    mask[torch_randperm(seed, vocab_size, count=greens)] = True
    return mask
