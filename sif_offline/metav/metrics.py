"""How well scores separate stolen models from unrelated ones: ARUC, ROC-AUC, shares, intervals."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 100
"""Of ARUC."""

Metric = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""metric(positives, negatives)."""


class Interval(NamedTuple):
    """An estimate between its limits."""

    estimate: float
    low: float
    high: float


def aruc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Area under the robustness-uniqueness curves (IPGuard: Cao, Jia, Gong, ASIA CCS 2021).

    The integral over tau in [0, 1] of ``min(R(tau), U(tau))``: R is the share of positives with a score of at
    least tau, U the share of negatives with one below. 100 bins, each by its middle. Some public code
    integrates R over U instead, which is :func:`roc_auc`.

    Args:
        positives: scores of stolen models, in [0, 1].
        negatives: of unrelated ones.

    Raises:
        ValueError: a side is empty, or a score outside of [0, 1].
    """
    stolen, unrelated = _sides(positives, negatives)
    if min(stolen.min(), unrelated.min()) < 0 or max(stolen.max(), unrelated.max()) > 1:
        raise ValueError("ARUC takes scores in [0, 1]")
    taus = (np.arange(BINS) + 0.5) / BINS
    robustness = (stolen[:, None] >= taus).mean(0)
    uniqueness = (unrelated[:, None] < taus).mean(0)
    return float(np.minimum(robustness, uniqueness).mean())


def roc_auc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Probability that a positive scores above a negative, ties counted half.

    Raises:
        ValueError: a side is empty.
    """
    stolen, unrelated = _sides(positives, negatives)
    above = (stolen[:, None] > unrelated).mean()
    return float(above + (stolen[:, None] == unrelated).mean() / 2)


def bootstrap(
    metric: Metric,
    positives: ArrayLike,
    negatives: ArrayLike,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A metric with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Models of each side are drawn with replacement, so the interval is about other suspects of the same kinds,
    not about another training. Where the sides do not overlap it has no width, which a share's exact interval
    does have: see :func:`share`.
    """
    stolen, unrelated = _sides(positives, negatives)
    rng = np.random.default_rng(seed)
    found = [
        metric(rng.choice(stolen, len(stolen)), rng.choice(unrelated, len(unrelated))) for _ in range(draws)
    ]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(metric(stolen, unrelated), float(low), float(high))


def share(hits: int, count: int, *, level: float = 0.95) -> Interval:
    """A share with its exact binomial interval (Clopper & Pearson 1934). ``ValueError``: of nothing."""
    from scipy.special import betaincinv

    if not 0 <= hits <= count or not count:
        raise ValueError(f"{hits} of {count} is no share")
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, count - hits + 1, tail))
    high = 1.0 if hits == count else float(betaincinv(hits + 1, count - hits, 1 - tail))
    return Interval(hits / count, low, high)


def _sides(positives: ArrayLike, negatives: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    found = np.asarray(positives, dtype=np.float64), np.asarray(negatives, dtype=np.float64)
    if not all(side.ndim == 1 and len(side) for side in found):
        raise ValueError("needs scores of stolen models and of unrelated ones")
    return found
