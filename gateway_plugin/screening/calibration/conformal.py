"""One threshold from benign scores at a chosen false-positive rate, by split conformal prediction.

Of n benign scores the threshold is the k-th smallest, k = ceil((n + 1)(1 - a)), and what lies above it is
flagged. If the next benign exchange is exchangeable with the n, the chance that it is flagged is at most a,
for every n and every distribution of scores (Vovk, Gammerman and Shafer 2005; Angelopoulos and Bates 2023,
appendix D). It holds on average over calibration sets: for one set the rate follows Beta(n + 1 - k, k), whose
95 % quantile is reported. With n + 1 < 1 / a no threshold has this property and none is given.
"""

import math
from collections.abc import Sequence

import numpy as np

from sif_offline.fingerprint.errors import SifError


class CalibrationError(SifError):
    """The benign traffic cannot give the thresholds asked for; ``str`` is one line that says why."""


def least_n(rate: float) -> int:
    """The fewest benign scores that give a threshold at ``rate``: n + 1 >= 1 / rate."""
    return math.ceil(1 / rate - 1e-9) - 1


def conformal_threshold(scores: Sequence[float], *, rate: float) -> float:
    """The ``ceil((n + 1)(1 - rate))``-th smallest score: a new one lies above it with chance ``<= rate``.

    Raises :class:`CalibrationError` for fewer than :func:`least_n` scores.
    """
    n = len(scores)
    if n < least_n(rate):
        raise CalibrationError(
            f"{n} benign exchanges are too few for a rate of {rate:.4g}: at least {least_n(rate)}"
        )
    return float(np.sort(np.asarray(scores, dtype=np.float64))[_rank(n, rate) - 1])


def rate_95(n: int, *, rate: float) -> float:
    """The false-positive rate that 95 % of calibration sets of ``n`` keep: Beta(n + 1 - k, k)'s quantile."""
    from scipy.stats import beta

    k = _rank(n, rate)
    return float(beta.ppf(0.95, n + 1 - k, k))


def _rank(n: int, rate: float) -> int:
    return min(n, math.ceil((n + 1) * (1 - rate) - 1e-9))
