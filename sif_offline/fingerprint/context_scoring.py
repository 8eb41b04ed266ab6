"""One text under one key of a Kirchenbauer scheme: distinct (seed, token) units and their exact p.

A list that hangs on the context is drawn anew for every seed, so the unit of evidence is neither the token
nor the n-gram but the distinct pair of seed and token. Two n-grams may share a seed (a minimum over four
tokens often stays the same as the window moves on), and counting such a pair twice counts one coin twice.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.greenlist import GreenListError, green_size
from sif_offline.fingerprint.kgw import KGW_SCHEMES, kgw_key, kgw_key_free, kgw_seeds
from sif_offline.fingerprint.randperm import in_front
from sif_offline.fingerprint.tails import hypergeometric, log_tail_of_sum


@dataclass(frozen=True)
class ContextScore:
    """The score of one text under one key of a context scheme.

    Attributes:
        scheme: its name.
        units: distinct scored (seed, token) pairs.
        greens: green ones among them.
        seeds: distinct seeds among them.
        key_free: distinct pairs left out because their seed is the same under every key.
        vocab_size: V.
        green_size: N_g.
        green_share: greens / units, in [0, 1]; 0 without units.
        z: ``(greens - units gamma) / sqrt(sum of hypergeometric variances)``, for display; 0 where the
            variance is 0.
        log_pvalue: natural log of the exact p.
        pvalue: exact p, in [0, 1]; 1 without units.
    """

    scheme: str
    units: int
    greens: int
    seeds: int
    key_free: int
    vocab_size: int
    green_size: int
    green_share: float
    z: float
    log_pvalue: float
    pvalue: float


def score_context_ids(
    ids: Iterable[int] | NDArray[np.integer],
    *,
    key: bytes | int,
    vocab_size: int,
    scheme: str,
    gamma: float = 0.5,
    ignore: Collection[int] = frozenset(),
) -> ContextScore:
    """Score token ids under one of the ``kgw-`` schemes.

    Null hypothesis: the text does not depend on the key, and torch's generator makes unrelated lists of
    different seeds. Then the green units of the seeds are independent hypergeometric counts and
    ``p = P(sum >= greens)`` under the convolution of ``hypergeom(V, N_g, U_seed)`` over the seeds: exact.

    Not scored: the tokens at the start that have no full window before them, and units whose seed no key
    changes (:func:`~sif_offline.fingerprint.kgw.kgw_key_free`), as their colours are the same for everybody
    and prove nothing.

    Args:
        ids: token ids of the answer in order, each in 0 .. V - 1.
        key: integer key (signed 64 bits), or key bytes as :func:`~sif_offline.fingerprint.kgw.kgw_key` takes
            them.
        vocab_size: the V that the lists were made with.
        scheme: one of :data:`~sif_offline.fingerprint.kgw.KGW_SCHEMES`.
        gamma: share of green ids, in (0, 1).
        ignore: ids never scored (special tokens); they stay part of the contexts.

    Raises:
        GreenListError: not a ``kgw-`` scheme, an impossible V, gamma or integer key.
        ValueError: an id outside the vocabulary.
    """
    greens = green_size(vocab_size, gamma, scheme)
    if scheme not in KGW_SCHEMES:
        raise GreenListError(f"scheme {scheme} has no contexts; score_ids scores it")
    try:
        number = kgw_key(key)
    except OverflowError:
        raise GreenListError("an integer key is a signed 64-bit number") from None
    tokens = np.array(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
    if len(tokens) and not (tokens.min() >= 0 and tokens.max() < vocab_size):
        raise ValueError(f"token id outside the vocabulary 0 .. {vocab_size - 1}")
    units, key_free = _units(tokens, number, scheme, frozenset(ignore))
    generator = np.random.RandomState(0)
    green_units = sum(
        int(in_front(seed, vocab_size, count=greens, values=chosen, generator=generator).sum())
        for seed, chosen in units.items()
    )
    sizes = [len(chosen) for chosen in units.values()]
    log_p = log_tail_of_sum([hypergeometric(vocab_size, greens, size) for size in sizes], green_units)
    share = greens / vocab_size
    variance = sum(share * (1 - share) * n * (vocab_size - n) / (vocab_size - 1) for n in sizes)
    return ContextScore(
        scheme=scheme,
        units=sum(sizes),
        greens=green_units,
        seeds=len(units),
        key_free=key_free,
        vocab_size=vocab_size,
        green_size=greens,
        green_share=green_units / sum(sizes) if sizes else 0.0,
        z=(green_units - sum(sizes) * share) / math.sqrt(variance) if variance > 0 else 0.0,
        log_pvalue=log_p,
        pvalue=math.exp(log_p),
    )


def _units(
    tokens: NDArray[np.int64], key: int, scheme: str, ignore: frozenset[int]
) -> tuple[dict[int, set[int]], int]:
    """Scored tokens by seed, and the number of distinct pairs that no key changes."""
    kgw = KGW_SCHEMES[scheme]
    width, candidates = kgw.context_width, tokens[kgw.skipped :]
    if not len(candidates):
        return {}, 0
    starts = np.arange(len(candidates))[:, None]
    windows = tokens[starts + np.arange(width)]
    seeds = kgw_seeds(key, windows, scheme)
    fixed = kgw_key_free(windows, seeds, scheme)
    scored: defaultdict[int, set[int]] = defaultdict(set)
    left_out: set[tuple[int, int]] = set()
    for seed, token, free in zip(seeds, candidates.tolist(), fixed, strict=True):
        if token in ignore:
            continue
        if free:
            left_out.add((seed, token))
        else:
            scored[seed].add(token)
    return dict(scored), len(left_out)
