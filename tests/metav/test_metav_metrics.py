"""ARUC, ROC-AUC, shares and their intervals."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import roc_auc_score

from sif_offline.metav.metrics import aruc, bootstrap, roc_auc, share


def aruc_by_hand(stolen: list[float], unrelated: list[float]) -> float:
    total = 0.0
    for number in range(100):
        tau = (number + 0.5) / 100
        robustness = sum(score >= tau for score in stolen) / len(stolen)
        uniqueness = sum(score < tau for score in unrelated) / len(unrelated)
        total += min(robustness, uniqueness) / 100
    return total


def test_aruc_is_the_smaller_of_two_shares_integrated() -> None:
    rng = np.random.default_rng(0)
    stolen, unrelated = rng.beta(4, 2, 30).tolist(), rng.beta(2, 4, 40).tolist()
    assert aruc(stolen, unrelated) == pytest.approx(aruc_by_hand(stolen, unrelated), abs=1e-12)


@pytest.mark.parametrize(
    ("stolen", "unrelated", "area"),
    [
        ([1.0, 1.0], [0.0, 0.0], 1.0),
        ([0.0, 0.0], [1.0, 1.0], 0.0),
        ([0.6], [0.2], 0.4),  # both hold for tau in (.2, .6] alone
        ([0.5, 0.5], [0.5, 0.5], 0.0),
        ([1.0, 0.3], [0.0, 0.0], 0.65),  # 1 up to .3, then half of the stolen
    ],
)
def test_aruc_of_cases_known_by_reason(stolen: list[float], unrelated: list[float], area: float) -> None:
    assert aruc(stolen, unrelated) == pytest.approx(area, abs=1e-9)


def test_aruc_and_roc_auc_are_two_things() -> None:
    """Ranked perfectly, but close together: the ROC sees no fault, ARUC does."""
    assert roc_auc([0.6, 0.61], [0.5, 0.51]) == 1.0
    assert aruc([0.6, 0.61], [0.5, 0.51]) == pytest.approx(0.105, abs=0.01)


def test_roc_auc_is_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(1)
    stolen, unrelated = rng.integers(2, 8, 30), rng.integers(0, 6, 50)
    expected = roc_auc_score(np.repeat([1, 0], [30, 50]), np.concatenate([stolen, unrelated]))
    assert roc_auc(stolen, unrelated) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (3, 7), (7, 7), (35, 36), (0, 1)])
def test_a_share_has_the_exact_interval(hits: int, count: int) -> None:
    found = share(hits, count)
    exact = binomtest(hits, count).proportion_ci(0.95, method="exact")
    assert found == pytest.approx((hits / count, exact.low, exact.high), abs=1e-9)


def test_bootstrap_intervals_cover_about_as_often_as_they_say() -> None:
    """120 draws of 40 + 40 suspects; covering less than 80 % of the time at a nominal 95 % is refused.

    A coverage of .92 (what 40 suspects and 100 draws give) fails this with probability 2e-5.
    """
    truth = float(roc_auc(*(np.random.default_rng(9).normal(m, size=4000) for m in (1, 0))))
    rng, covered, runs = np.random.default_rng(10), 0, 120
    for _ in range(runs):
        found = bootstrap(roc_auc, rng.normal(1, size=40), rng.normal(0, size=40), draws=100)
        assert found.low <= found.estimate <= found.high
        covered += found.low <= truth <= found.high
    assert covered >= 0.8 * runs
    assert binom.cdf(0.8 * runs, runs, 0.92) < 2e-4


def test_bootstrap_is_seeded() -> None:
    rng = np.random.default_rng(2)
    scores = rng.beta(4, 2, 12), rng.beta(2, 4, 12)
    assert bootstrap(aruc, *scores, seed=3) == bootstrap(aruc, *scores, seed=3)
    assert bootstrap(aruc, *scores, seed=3) != bootstrap(aruc, *scores, seed=4)


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="stolen models"):
        aruc([], [0.5])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        aruc([1.5], [0.5])
    with pytest.raises(ValueError, match="stolen models"):
        roc_auc([1.0], [])
    with pytest.raises(ValueError, match="no share"):
        share(0, 0)
