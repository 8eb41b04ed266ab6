"""Tail probabilities of counts, exact to rounding at any depth: hypergeometric, binomial, and sums over keys.

A pmf is built from the ratios of neighbouring probabilities, with mantissas and binary exponents kept apart,
and normalised by its own sum. No log-gamma is involved (its error, absolute in units of ``log V! ~ 1e6``,
would cost six digits), all terms are positive, and nothing underflows: the relative error of a tail is about
``U * 1e-16`` at 1e-5 and at 1e-3000 alike. The tests hold it against big-integer arithmetic and scipy.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_LN2 = math.log(2.0)
_CHUNK = 512
"""Mantissas multiplied before the exponent is taken out again; 2^-512 is well inside the doubles."""
_NEGLIGIBLE = 1e-100
"""Ends of a tilted pmf below this are cut; the observed sum sits at the centre, where the mass is > 1e-3."""


@dataclass(frozen=True, eq=False)
class CountPmf:
    """Distribution of a count: ``P(first + i) = mantissa[i] * 2^exponent[i]``, up to the common factor
    ``total``.

    Attributes:
        first: smallest value with positive probability.
        mantissa: float64 ``(n,)``, in [.5, 1).
        exponent: int64 ``(n,)``.
        top: largest exponent.
        total: sum of all weights in units of ``2^top``.
    """

    first: int
    mantissa: NDArray[np.float64]
    exponent: NDArray[np.int64]
    top: int
    total: float

    @classmethod
    def from_ratios(cls, first: int, ratios: NDArray[np.float64]) -> "CountPmf":
        """The pmf on ``first .. first + n`` with ``P(k + 1)/P(k) = ratios[k - first]``, float64 ``(n,)``,
        positive.
        """
        fractions, powers = np.frexp(ratios)
        mantissa = np.empty(len(ratios) + 1)
        exponent = np.empty(len(ratios) + 1, dtype=np.int64)
        mantissa[0], exponent[0] = 0.5, 1
        for start in range(0, len(ratios), _CHUNK):
            stop = min(start + _CHUNK, len(ratios))
            products, shifts = np.frexp(mantissa[start] * np.cumprod(fractions[start:stop]))
            mantissa[start + 1 : stop + 1] = products
            exponent[start + 1 : stop + 1] = (
                exponent[start] + np.cumsum(powers[start:stop], dtype=np.int64) + shifts
            )
        top = int(exponent.max())
        return cls(first, mantissa, exponent, top, _scaled_sum(mantissa, exponent, top))

    def log_tail(self, count: int) -> float:
        """``log P(X >= count)``; 0 at or below the support, -inf above it."""
        cut = count - self.first
        if cut <= 0:
            return 0.0
        if cut >= len(self.mantissa):
            return -math.inf
        above, exponents = self.mantissa[cut:], self.exponent[cut:]
        top = int(exponents.max())
        share = _scaled_sum(above, exponents, top) / self.total
        if top == self.top and share > 0.5:  # near 1 the complement is the accurate side
            below = _scaled_sum(self.mantissa[:cut], self.exponent[:cut], self.top)
            return math.log1p(-below / self.total)
        return math.log(share) + (top - self.top) * _LN2

    def log_probabilities(self) -> NDArray[np.float64]:
        """``log P(first + i)``, float64 ``(n,)``."""
        logs: NDArray[np.float64] = np.log(self.mantissa / self.total) + (self.exponent - self.top) * _LN2
        return logs


def _scaled_sum(mantissa: NDArray[np.float64], exponent: NDArray[np.int64], top: int) -> float:
    return float(np.ldexp(mantissa, np.maximum(exponent - top, -1100).astype(np.int32)).sum())


@lru_cache(maxsize=512)
def hypergeometric(vocab_size: int, green_size: int, types: int) -> CountPmf:
    """Green ids among ``types`` ids drawn without replacement from ``vocab_size``, ``green_size`` of them
    green.
    """
    if not (0 <= green_size <= vocab_size and 0 <= types <= vocab_size):
        raise ValueError(f"impossible counts: V={vocab_size}, N_g={green_size}, U={types}")
    low, high = max(0, types + green_size - vocab_size), min(types, green_size)
    k = np.arange(low, high, dtype=np.float64)
    ratios = (green_size - k) * (types - k) / ((k + 1) * (vocab_size - green_size - types + k + 1))
    return CountPmf.from_ratios(low, ratios)


@lru_cache(maxsize=512)
def binomial(trials: int, rate: float) -> CountPmf:
    """Successes in ``trials`` independent draws of probability ``rate``, in (0, 1)."""
    if trials < 0 or not 0 < rate < 1:
        raise ValueError(f"impossible binomial: n={trials}, p={rate}")
    k = np.arange(trials, dtype=np.float64)
    return CountPmf.from_ratios(0, (trials - k) / (k + 1) * (rate / (1 - rate)))


def log_tail_of_sum(pmfs: Sequence[CountPmf], total: int) -> float:
    """``log P(X_1 + ... + X_n >= total)`` for independent counts, by exact convolution.

    Each pmf is tilted by ``e^(theta k)``, with theta such that the tilted mean is ``total``; the tilted pmfs
    are convolved in plain doubles, where the mass now is, and the tilt is taken out again in logs
    (``P(s) = tilted(s) exp(sum log M_i - theta s)``). Exact for every theta; the choice only keeps the
    numbers large.
    """
    low = sum(pmf.first for pmf in pmfs)
    high = sum(pmf.first + len(pmf.mantissa) - 1 for pmf in pmfs)
    if total <= low:
        return 0.0
    if total > high:
        return -math.inf
    groups = [
        (pmf, number, pmf.first + np.arange(len(pmf.mantissa), dtype=np.float64), pmf.log_probabilities())
        for pmf, number in Counter(pmfs).items()
    ]

    def tilt(theta: float) -> tuple[float, float, list[NDArray[np.float64]]]:
        mean, log_scale, tilted = 0.0, 0.0, []
        for _, number, values, logs in groups:
            weights = logs + theta * values
            peak = float(weights.max())
            shape = np.exp(weights - peak)
            mass = float(shape.sum())
            tilted.append(shape / mass)
            mean += number * float(values @ tilted[-1])
            log_scale += number * (peak + math.log(mass))
        return mean, log_scale, tilted

    # theta = 0 below the mean (nothing to gain); never quite the maximum, which only theta = infinity reaches
    left, right, aim = 0.0, 60.0, min(total, high - 0.5)
    if tilt(0.0)[0] >= aim:
        right = 0.0
    while right - left > 1e-3:
        middle = (left + right) / 2
        left, right = (middle, right) if tilt(middle)[0] < aim else (left, middle)
    theta = right
    _, log_scale, tilted = tilt(theta)
    mass, offset = np.ones(1), low
    for (_, number, _, _), shape in zip(groups, tilted, strict=True):
        for _ in range(number):
            mass = np.convolve(mass, shape)
            kept = np.flatnonzero(mass > _NEGLIGIBLE)
            offset += int(kept[0])
            mass = mass[kept[0] : kept[-1] + 1]
    sums = offset + np.arange(len(mass))
    if theta == 0.0 and float(mass[sums >= total].sum()) > 0.5:
        return math.log1p(-min(1.0, float(mass[sums < total].sum())))
    tail = float((mass * np.exp(-theta * np.maximum(sums - total, 0)))[sums >= total].sum())
    return math.log(tail) + log_scale - theta * total
