"""Versioned green lists: which of the V token ids a key makes green.

Version policy: the vectors of a scheme name never change. A different construction, however slight, is a new
name. The golden vectors of every scheme are in ``tests/fingerprint/golden/greenlist.json``.

V is part of the key: our lists of V and V + 1 agree on half of the ids, which is chance. Always score with
the owner's tokenizer and the pinned V.
"""

import hashlib
import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.keys import int_key, length_prefixed

DEFAULT_SCHEME = "unigram-philox-v1"
MAX_VOCAB_SIZE = 2**24


class GreenListError(SifError):
    """An unknown scheme, or a vocabulary size, gamma or key that no green list can have."""


def _unigram_philox_v1(key: bytes, vocab_size: int, greens: int) -> NDArray[np.bool_]:
    """Sort the ids by raw Philox-4x64-10 words, id as the tie-break; the first ``greens`` of them are green.

    Raw words alone are used: numpy freezes the stream of a bit generator, but not what its
    distributions and shuffles make of it, and torch's permutation differs between CPU and CUDA.
    """
    seed = hashlib.sha256(
        length_prefixed("unigram-philox-v1", key, vocab_size.to_bytes(8, "little"))
    ).digest()
    words = np.frombuffer(seed, dtype="<u8").astype(np.uint64)
    # the low two counter words run; key and high counter words hold the seed's 256 bits
    counter = np.array([0, 0, words[2], words[3]], dtype=np.uint64)
    raw = np.random.Philox(key=words[:2], counter=counter).random_raw(vocab_size)
    mask = np.zeros(vocab_size, dtype=np.bool_)
    mask[np.argsort(raw, kind="stable")[:greens]] = True
    return mask


def _unigram_zhao(key: bytes, vocab_size: int, greens: int) -> NDArray[np.bool_]:
    """Zhao et al. 2023 (arXiv 2306.17439), as their reference code: sha256 of the key, 4 bytes,
    ``default_rng``, shuffle.

    For peers' data only: it rests on numpy's ``Generator.shuffle`` and on 32 bits of the key, and its
    lists of V and V + 1 may agree on 97 % of the ids (shuffles of one stream that stay in step).
    """
    seed = int.from_bytes(hashlib.sha256(key).digest()[:4], "little")
    mask = np.arange(vocab_size) < greens
    np.random.default_rng(seed).shuffle(mask)
    return mask


_SCHEMES: MappingProxyType[str, Callable[[bytes, int, int], NDArray[np.bool_]]] = MappingProxyType(
    {DEFAULT_SCHEME: _unigram_philox_v1, "unigram-zhao": _unigram_zhao}
)

SCHEMES: tuple[str, ...] = tuple(_SCHEMES)
"""Names of the schemes, the project's own first."""


def green_size(vocab_size: int, gamma: float = 0.5, scheme: str = DEFAULT_SCHEME) -> int:
    """N_g, the number of green ids: ``floor(gamma V + .5)``; compatibility schemes truncate, ``int(gamma
    V)``.

    Raises:
        GreenListError: unknown scheme, V outside 2 .. 2^24, or a gamma that leaves no green or no red id.
    """
    if scheme not in _SCHEMES:
        raise GreenListError(f"unknown green-list scheme {scheme!r}; known: {', '.join(SCHEMES)}")
    if not 2 <= vocab_size <= MAX_VOCAB_SIZE:
        raise GreenListError(f"vocabulary size {vocab_size} is outside 2 .. {MAX_VOCAB_SIZE}")
    if not 0 < gamma < 1:
        raise GreenListError(f"gamma {gamma} is outside 0 .. 1")
    greens = math.floor(gamma * vocab_size + 0.5) if scheme == DEFAULT_SCHEME else int(gamma * vocab_size)
    if not 0 < greens < vocab_size:
        raise GreenListError(f"gamma {gamma} leaves {greens} of {vocab_size} ids green")
    return greens


def green_mask(
    *, key: bytes | int, vocab_size: int, gamma: float = 0.5, scheme: str = DEFAULT_SCHEME
) -> NDArray[np.bool_]:
    """The green list of ``key`` as a read-only mask, bool ``(vocab_size,)``, bit-identical on every machine.

    Args:
        key: a 32-byte trigger key, or an integer (see :func:`~sif_offline.fingerprint.keys.int_key`).
        vocab_size: the pinned V.
        gamma: share of green ids, in (0, 1).
        scheme: one of :data:`SCHEMES`.

    Raises:
        GreenListError: see :func:`green_size`; or an integer key that does not fit in 64 bits.
    """
    greens = green_size(vocab_size, gamma, scheme)
    try:
        key_bytes = int_key(key) if isinstance(key, int) else bytes(key)
    except OverflowError:
        raise GreenListError("an integer key is a signed 64-bit number") from None
    mask = _SCHEMES[scheme](key_bytes, vocab_size, greens)
    mask.setflags(write=False)
    return mask


def mask_digest(mask: NDArray[np.bool_]) -> str:
    """Hex sha256 over the mask as uint8, one byte an id: how golden vectors and check values are quoted."""
    return hashlib.sha256(mask.astype(np.uint8).tobytes()).hexdigest()
