"""Random-key null: how often a fresh key would have scored this very text as high as the key on trial.

``p = (1 + #{j : S(k_j) >= S(k*)}) / (K + 1)`` over K fresh keys, for any statistic S of the colours and
whatever dependence the text has, provided that the text does not depend on k* (Phipson & Smyth 2010 on why
the 1 is added). It is valid at every K; its least value is ``1 / (K + 1)``.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.greenlist import green_mask, green_size

Statistic = Callable[[NDArray[np.bool_]], NDArray[Any]]
"""Colours bool ``(k, U)``, one row a key and one column a distinct scored type in ascending order of id, to
``k`` finite numbers. It is called with blocks of keys, of varying k.
"""

_CELLS = 2**23
"""Colours held at a time, one byte each."""


@dataclass(frozen=True)
class RandomKeyNull:
    """A random-key p.

    Attributes:
        statistic: S(k*), the statistic under the key on trial.
        keys: K, fresh keys drawn.
        at_least: how many of them reach S(k*).
        pvalue: ``(1 + at_least) / (K + 1)``, in (0, 1].
        types: U, distinct scored types.
        vocab_size: V.
        green_size: N_g.
        mean: mean of the statistic over the fresh keys.
        sd: its standard deviation over them.
    """

    statistic: float
    keys: int
    at_least: int
    pvalue: float
    types: int
    vocab_size: int
    green_size: int
    mean: float
    sd: float


def green_types(colours: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The default statistic: number of green types, int64 ``(k,)``."""
    counts: NDArray[np.int64] = np.count_nonzero(colours, axis=1)
    return counts


def scored_types(
    ids: Iterable[int] | NDArray[np.integer], *, ignore: Collection[int] = frozenset()
) -> NDArray[np.int64]:
    """Distinct scored types in ascending order, int64 ``(U,)``: the columns of a statistic's colours."""
    distinct = set(ids.tolist() if isinstance(ids, np.ndarray) else ids).difference(ignore)
    return np.array(sorted(distinct), dtype=np.int64)


def random_key_null(
    ids: Iterable[int] | NDArray[np.integer],
    *,
    mask: NDArray[np.bool_],
    keys: int = 10_000,
    statistic: Statistic = green_types,
    ignore: Collection[int] = frozenset(),
    seed: int | None = None,
) -> RandomKeyNull:
    """The random-key p from the exact law of a fresh key.

    No key is made. If the scheme is a pseudorandom function, a fresh key's list is a uniformly random set of
    N_g ids, and its colours on the text's U types are U draws without replacement: the t-th is green with
    probability ``(N_g - G) / (V - t)``, G greens being drawn before it. Drawn so, all keys at once, the cost
    is ``K U`` whatever V is. :func:`real_key_null` makes real keys instead.

    A weighted statistic, every token counted as often as it occurs::

        counts = np.unique(ids, return_counts=True)[1]
        random_key_null(ids, mask=mask, statistic=lambda colours: colours @ counts)

    Args:
        ids: token ids of the answer, each in 0 .. V - 1.
        mask: the green list on trial, bool ``(V,)``.
        keys: K, at least 1.
        statistic: see :data:`Statistic`; large values speak against the null.
        ignore: ids never scored.
        seed: for a draw that can be repeated; None takes one from the operating system, so that nobody
            chooses among seeds.

    Raises:
        ValueError: an id outside the vocabulary, no keys, or a statistic without one finite number a row.
    """
    types = _checked_types(ids, mask, ignore)
    generator = np.random.default_rng(seed)
    greens = int(np.count_nonzero(mask))
    blocks = (
        _uniform_colours(generator, size, len(types), vocab_size=len(mask), greens=greens)
        for size in _block_sizes(keys, len(types))
    )
    return _null(blocks, types, mask, statistic)


def real_key_null(
    ids: Iterable[int] | NDArray[np.integer],
    *,
    mask: NDArray[np.bool_],
    scheme: str,
    gamma: float = 0.5,
    keys: int = 1000,
    statistic: Statistic = green_types,
    ignore: Collection[int] = frozenset(),
    seed: int | None = None,
) -> RandomKeyNull:
    """The random-key p from the lists of real keys of 32 random bytes, one after the other.

    It assumes nothing about the scheme, and costs a whole list a key: the check on :func:`random_key_null`.

    Args:
        ids: as there.
        mask: as there.
        scheme: the scheme that made ``mask``, one without a context.
        gamma: its share of green ids.
        keys: K, at least 1.
        statistic: as there.
        ignore: as there.
        seed: as there.

    Raises:
        GreenListError: an unknown scheme, or one with a context.
        ValueError: as there; or a mask with another number of greens than the scheme's.
    """
    types = _checked_types(ids, mask, ignore)
    if green_size(len(mask), gamma, scheme) != int(np.count_nonzero(mask)):
        raise ValueError(f"the mask is no {scheme} list with gamma {gamma}")
    generator = np.random.default_rng(seed)

    def colours(size: int) -> NDArray[np.bool_]:
        block = np.empty((size, len(types)), dtype=np.bool_)
        for row in block:
            key = generator.bytes(32)
            row[:] = green_mask(key=key, vocab_size=len(mask), gamma=gamma, scheme=scheme)[types]
        return block

    return _null((colours(size) for size in _block_sizes(keys, len(types))), types, mask, statistic)


def _checked_types(
    ids: Iterable[int] | NDArray[np.integer], mask: NDArray[np.bool_], ignore: Collection[int]
) -> NDArray[np.int64]:
    types = scored_types(ids, ignore=ignore)
    if len(types) and not (types[0] >= 0 and types[-1] < len(mask)):
        raise ValueError(f"token id outside the vocabulary 0 .. {len(mask) - 1}")
    return types


def _block_sizes(keys: int, types: int) -> list[int]:
    if keys < 1:
        raise ValueError(f"{keys} keys: at least one is needed")
    most = max(1, _CELLS // max(types, 1))
    return [min(most, keys - start) for start in range(0, keys, most)]


def _uniform_colours(
    generator: np.random.Generator, keys: int, types: int, *, vocab_size: int, greens: int
) -> NDArray[np.bool_]:
    """Colours of ``types`` ids under ``keys`` uniformly random lists, bool ``(keys, types)``."""
    colours = np.empty((types, keys), dtype=np.bool_)
    left = np.full(keys, greens, dtype=np.int32)
    for drawn, row in enumerate(colours):
        # whole numbers, so the odds are exact
        np.less(generator.integers(0, vocab_size - drawn, size=keys, dtype=np.int32), left, out=row)
        left -= row
    return np.ascontiguousarray(colours.T)


def _null(
    blocks: Iterator[NDArray[np.bool_]],
    types: NDArray[np.int64],
    mask: NDArray[np.bool_],
    statistic: Statistic,
) -> RandomKeyNull:
    observed = float(_values(statistic, mask[types][None, :])[0])
    values = np.concatenate([_values(statistic, block) for block in blocks])
    # a sum of weights may round otherwise in another row; what is equal but for rounding counts as reached
    rounding = 1e-12 * max(abs(observed), float(np.abs(values).max()))
    at_least = int(np.count_nonzero(values >= observed - rounding))
    return RandomKeyNull(
        statistic=observed,
        keys=len(values),
        at_least=at_least,
        pvalue=(1 + at_least) / (len(values) + 1),
        types=len(types),
        vocab_size=len(mask),
        green_size=int(np.count_nonzero(mask)),
        mean=float(values.mean()),
        sd=float(values.std()),
    )


def _values(statistic: Statistic, colours: NDArray[np.bool_]) -> NDArray[np.float64]:
    values = np.asarray(statistic(colours), dtype=np.float64)
    if values.shape != (len(colours),) or not np.isfinite(values).all():
        raise ValueError(f"the statistic of {len(colours)} keys is not {len(colours)} finite numbers")
    return values
