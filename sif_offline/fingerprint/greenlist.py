"""Versioned green lists: which of the V token ids a key makes green.

Version policy: the vectors of a scheme name never change. A different construction, however slight, is a new
name. The golden vectors of every scheme are in ``tests/fingerprint/golden/greenlist.json``; the schemes and
their weaknesses are described in ``docs/green-lists.md``.

V is part of the key: our lists of V and V + 1 agree on half of the ids, which is chance. Always score with
the owner's tokenizer and the pinned V.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.keys import int_key, length_prefixed
from sif_offline.fingerprint.kgw import KGW_SCHEMES, kgw_key, kgw_mask

DEFAULT_SCHEME = "unigram-philox-v1"
MAX_VOCAB_SIZE = 2**24


class GreenListError(SifError):
    """An unknown scheme, or a vocabulary size, gamma, key or context that no green list can have."""


def _smallest(words: NDArray[np.uint64], count: int) -> NDArray[np.bool_]:
    """The mask of the first ``count`` places of a stable argsort; 1 <= count <= len.

    Uniform words are sorted only where the threshold is expected, within 8 sd; other words all of them.
    """
    share = count / len(words)
    slack = 8 * math.sqrt(share * (1 - share) / len(words))
    low, high = (
        np.uint64(min(max(0.0, edge) * 2.0**64, 2**64 - 2**11)) for edge in (share - slack, share + slack)
    )
    mask: NDArray[np.bool_] = words < low
    wanted = count - int(np.count_nonzero(mask))
    near = np.flatnonzero((words >= low) & (words < high))
    if not 0 <= wanted <= len(near):
        mask[:], wanted, near = False, count, np.arange(len(words))
    mask[near[np.argsort(words[near], kind="stable")[:wanted]]] = True
    return mask


def _unigram_philox_v1(key: bytes, vocab_size: int, greens: int, context: Sequence[int]) -> NDArray[np.bool_]:
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
    return _smallest(np.random.Philox(key=words[:2], counter=counter).random_raw(vocab_size), greens)


def _unigram_zhao(key: bytes, vocab_size: int, greens: int, context: Sequence[int]) -> NDArray[np.bool_]:
    """Zhao et al. 2023 (arXiv 2306.17439), as their reference code: sha256 of the key, 4 bytes,
    ``default_rng``, shuffle.

    For peers' data only: it rests on numpy's ``Generator.shuffle`` and on 32 bits of the key, and its
    lists of V and V + 1 may agree on 97 % of the ids (shuffles of one stream that stay in step).
    """
    seed = int.from_bytes(hashlib.sha256(key).digest()[:4], "little")
    mask = np.arange(vocab_size) < greens
    np.random.default_rng(seed).shuffle(mask)
    return mask


def _kgw(
    key: bytes, vocab_size: int, greens: int, context: Sequence[int], *, scheme: str
) -> NDArray[np.bool_]:
    return kgw_mask(kgw_key(key), vocab_size, greens, scheme, context)


@dataclass(frozen=True)
class _Scheme:
    mask: Callable[[bytes, int, int, Sequence[int]], NDArray[np.bool_]]
    context_width: int = 0


_SCHEMES: MappingProxyType[str, _Scheme] = MappingProxyType(
    {DEFAULT_SCHEME: _Scheme(_unigram_philox_v1), "unigram-zhao": _Scheme(_unigram_zhao)}
    | {name: _Scheme(partial(_kgw, scheme=name), kgw.context_width) for name, kgw in KGW_SCHEMES.items()}
)

SCHEMES: tuple[str, ...] = tuple(_SCHEMES)
"""Names of the schemes, the project's own first."""


def context_width(scheme: str) -> int:
    """Token ids that a list of ``scheme`` depends on besides the key; 0 where one list serves a whole text.

    Raises:
        GreenListError: unknown scheme.
    """
    if scheme not in _SCHEMES:
        raise GreenListError(f"unknown green-list scheme {scheme!r}; known: {', '.join(SCHEMES)}")
    return _SCHEMES[scheme].context_width


def green_size(vocab_size: int, gamma: float = 0.5, scheme: str = DEFAULT_SCHEME) -> int:
    """N_g, the number of green ids: ``floor(gamma V + .5)``; compatibility schemes truncate, ``int(gamma
    V)``.

    Raises:
        GreenListError: unknown scheme, V outside 2 .. 2^24, or a gamma that leaves no green or no red id.
    """
    context_width(scheme)  # raises where the scheme is unknown
    if not 2 <= vocab_size <= MAX_VOCAB_SIZE:
        raise GreenListError(f"vocabulary size {vocab_size} is outside 2 .. {MAX_VOCAB_SIZE}")
    if not 0 < gamma < 1:
        raise GreenListError(f"gamma {gamma} is outside 0 .. 1")
    greens = math.floor(gamma * vocab_size + 0.5) if scheme == DEFAULT_SCHEME else int(gamma * vocab_size)
    if not 0 < greens < vocab_size:
        raise GreenListError(f"gamma {gamma} leaves {greens} of {vocab_size} ids green")
    return greens


def green_mask(
    *,
    key: bytes | int,
    vocab_size: int,
    gamma: float = 0.5,
    scheme: str = DEFAULT_SCHEME,
    context: Sequence[int] = (),
) -> NDArray[np.bool_]:
    """The green list of ``key`` as a read-only mask, bool ``(vocab_size,)``, bit-identical on every machine.

    Args:
        key: a 32-byte trigger key, or an integer (see :func:`~sif_offline.fingerprint.keys.int_key`).
        vocab_size: the pinned V.
        gamma: share of green ids, in (0, 1).
        scheme: one of :data:`SCHEMES`.
        context: for a scheme with a context, at least :func:`context_width` token ids, of which the last
            count: those before the candidate, or for ``kgw-anchored-minhash`` the window that ends in the
            candidate (of that list only the candidate's own colour is used).

    Raises:
        GreenListError: see :func:`green_size`; an integer key that does not fit in 64 bits; a context that
            is missing, too short, out of the vocabulary, or given to a scheme without one.
    """
    greens = green_size(vocab_size, gamma, scheme)
    window = _window(context, vocab_size, scheme)
    try:
        key_bytes = int_key(key) if isinstance(key, int) else bytes(key)
    except OverflowError:
        raise GreenListError("an integer key is a signed 64-bit number") from None
    mask = _SCHEMES[scheme].mask(key_bytes, vocab_size, greens, window)
    mask.setflags(write=False)
    return mask


def _window(context: Sequence[int], vocab_size: int, scheme: str) -> tuple[int, ...]:
    width = context_width(scheme)
    if not width and len(context):
        raise GreenListError(f"scheme {scheme} has one list a key and takes no context")
    if len(context) < width:
        raise GreenListError(f"scheme {scheme} needs a context of {width} token ids, got {len(context)}")
    window = tuple(int(token) for token in context[len(context) - width :])
    if any(not 0 <= token < vocab_size for token in window):
        raise GreenListError(f"context token outside the vocabulary 0 .. {vocab_size - 1}")
    return window


def mask_digest(mask: NDArray[np.bool_]) -> str:
    """Hex sha256 over the mask as uint8, one byte an id: how golden vectors and check values are quoted."""
    return hashlib.sha256(mask.astype(np.uint8).tobytes()).hexdigest()
