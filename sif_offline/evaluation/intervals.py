"""Estimates with their intervals; the unit that is drawn is the trigger.

Answers of several models to one trigger hang together, as the trigger's key and photo are the same, so no
bootstrap here draws answers one by one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sif_offline.metav.metrics import share

DRAWS = 1000
LEVEL = 0.95

Places = NDArray[np.int64]
"""Which triggers a draw holds: places in the list of all, ``(triggers,)``, with repeats."""


class Interval(NamedTuple):
    """An estimate between two limits."""

    value: float
    low: float
    high: float


class Rate(NamedTuple):
    """A share of answers.

    Attributes:
        hits, of: answers that match, of how many.
        exact: Clopper-Pearson limits; they take the answers for independent.
        drawn: percentile-bootstrap limits over triggers. Without width where all answers agree, which the
            exact ones never are.
    """

    hits: int
    of: int
    exact: tuple[float, float]
    drawn: tuple[float, float]

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.hits / self.of


def rate(hits: NDArray[np.bool_], *, seed: int = 0) -> Rate:
    """The share of true values of ``(models, triggers)`` or ``(triggers,)``.

    Raises:
        ValueError: no answer.
    """
    matrix = np.atleast_2d(hits)
    found = share(int(matrix.sum()), matrix.size, level=LEVEL)
    low, high = drawn(lambda places: float(matrix[:, places].mean()), triggers=matrix.shape[1], seed=seed)
    return Rate(int(matrix.sum()), matrix.size, (found.low, found.high), (low, high))


def drawn(
    statistic: Callable[[Places], float], *, triggers: int, seed: int = 0, draws: int = DRAWS
) -> tuple[float, float]:
    """Percentile-bootstrap limits (Efron and Tibshirani 1993, chapter 13) of a statistic of the triggers."""
    chance = np.random.default_rng(seed)
    values = [statistic(chance.integers(triggers, size=triggers)) for _ in range(draws)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """The mean of one number a trigger. ``ValueError``: of nothing."""
    if not values:
        raise ValueError("the mean of nothing")
    numbers = np.asarray(values, dtype=np.float64)
    low, high = drawn(lambda places: float(numbers[places].mean()), triggers=len(numbers), seed=seed)
    return Interval(float(numbers.mean()), low, high)
