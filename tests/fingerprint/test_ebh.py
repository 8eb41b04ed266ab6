"""e-BH: its definition, Benjamini-Hochberg around it, the rate of false discoveries under any dependence."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sif_offline.fingerprint.sequential import EProcess, ebh

log_es = st.lists(
    st.one_of(st.floats(-20, 20), st.sampled_from([-math.inf, math.inf, 0.0, math.log(20), math.log(40)])),
    max_size=12,
)
alphas = st.sampled_from([0.01, 0.05, 0.2, 0.5])


@given(values=log_es, alpha=alphas)
def test_definition(values: list[float], alpha: float) -> None:
    """k* by trying every k, and the k* largest with their ties."""
    ordered, m = sorted(values, reverse=True), len(values)
    passing = [k for k in range(1, m + 1) if ordered[k - 1] >= math.log(m) - math.log(alpha) - math.log(k)]
    least = ordered[max(passing) - 1] if passing else math.inf
    expected = {i for i, value in enumerate(values) if passing and value >= least}
    assert ebh(values, alpha=alpha) == expected
    assert ebh({f"e{i}": value for i, value in enumerate(values)}, alpha=alpha) == {f"e{i}" for i in expected}


@given(values=log_es, alpha=alphas)
def test_rejections_are_those_of_benjamini_hochberg_on_the_inverse(values: list[float], alpha: float) -> None:
    """1/e is a conservative p, so BH on it rejects the same at the same cuts; never more than BH does."""
    if not values:
        assert ebh(values, alpha=alpha) == frozenset()
        return
    pvalues = np.exp(np.minimum(0.0, -np.array(values)))
    # a hair above alpha, so that rounding at a cut cannot make BH the stricter one
    bh = set(np.flatnonzero(stats.false_discovery_control(pvalues) <= alpha * (1 + 1e-12)).tolist())
    assert ebh(values, alpha=alpha) <= bh


@given(values=log_es, alpha=alphas, raised=st.integers(0, 11), by=st.floats(0, 5))
def test_more_evidence_never_loses_a_rejection(
    values: list[float], alpha: float, raised: int, by: float
) -> None:
    more = [value + by if i == raised else value for i, value in enumerate(values)]
    assert ebh(values, alpha=alpha) <= ebh(more, alpha=alpha)
    assert ebh(values, alpha=alpha) <= ebh(values, alpha=min(0.99, alpha * 1.5))


def test_cuts_ties_and_nothing() -> None:
    alpha = 0.1
    assert ebh([math.log(31), math.log(14), math.log(9)], alpha=alpha) == {0}
    assert ebh([math.log(29), math.log(15.1), math.log(9)], alpha=alpha) == {0, 1}, "30/2 lets two in"
    assert ebh([math.log(10.1)] * 3, alpha=alpha) == {0, 1, 2}, "equal values go together"
    assert ebh([math.log(9.9)] * 3, alpha=alpha) == frozenset()
    assert ebh([-math.inf, -math.inf], alpha=alpha) == frozenset()
    assert ebh({}, alpha=alpha) == frozenset()
    assert ebh({"a": math.inf, "b": -math.inf}, alpha=alpha) == {"a"}
    assert ebh({"only": math.log(10.1)}, alpha=alpha) == {"only"}


def test_misuse_is_refused() -> None:
    for alpha in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="false-discovery rate"):
            ebh([1.0], alpha=alpha)
    with pytest.raises(ValueError, match="not a number"):
        ebh({"a": math.nan}, alpha=0.05)


def test_false_discoveries_under_strong_dependence() -> None:
    """Ten innocents with one common E and ten pirates whose E falls as theirs rises; 3,000 draws.

    The false share of a draw lies in [0, 1] and its mean is at most alpha; by Hoeffding's inequality the mean
    of 3,000 passes alpha + .048 with probability 1e-6 (false-alarm rate).
    """
    generator, alpha, shares, found = np.random.default_rng(5), 0.1, [], 0
    for _ in range(3000):
        z = generator.normal()
        innocent = 3 * z - 4.5  # log of a mean-1 e-value
        rejected = ebh([innocent] * 10 + [6 - z] * 10, alpha=alpha)
        shares.append(sum(i < 10 for i in rejected) / max(len(rejected), 1))
        found += sum(i >= 10 for i in rejected)
    assert np.mean(shares) < alpha + math.sqrt(math.log(1e6) / 6000)
    assert found > 0.9 * 30_000


def test_the_bound_is_reached_and_not_passed_by_equal_innocents() -> None:
    """All innocent and all alike, E = 1/alpha with probability alpha: one rejected, all rejected.

    2,000 draws, false-alarm rate 2e-6.
    """
    generator, alpha = np.random.default_rng(8), 0.1
    alarms = sum(
        bool(ebh([math.log(1 / alpha) + 1e-12 if draw < alpha else -math.inf] * 8, alpha=alpha))
        for draw in generator.uniform(size=2000)
    )
    assert stats.binom.sf(alarms - 1, 2000, alpha) > 1e-6
    assert stats.binom.cdf(alarms, 2000, alpha) > 1e-6


def test_the_running_maximum_would_break_the_bound() -> None:
    """P(max E >= x) may be 1/x for each of ten innocents, and they may hang together so that with probability
    alpha/k exactly k of them reach 10/(alpha k): fed in, the false rate is alpha (1 + 1/2 + ... + 1/10).
    """
    alpha, m = 0.1, 10
    rate = 0.0
    for k in range(1, m + 1):
        values = [math.log(m / (alpha * k)) + 1e-12] * k + [0.0] * (m - k)
        rate += alpha / k * bool(ebh(values, alpha=alpha))
    assert rate == pytest.approx(alpha * sum(1 / k for k in range(1, m + 1)))
    assert rate > 2.9 * alpha


def test_processes_of_many_endpoints() -> None:
    """Three of twelve endpoints answer green at .72; the current E's go in by name."""
    generator, processes = np.random.default_rng(3), {}
    for endpoint in range(12):
        process = EProcess(vocab_size=4096, green_size=2048, transfer=0.03)
        for trigger in range(15):
            greens = generator.uniform(size=32) < (0.72 if endpoint < 3 else 0.52)
            process.update(f"t{trigger}", list(enumerate(greens.tolist())))
        processes[f"endpoint-{endpoint}"] = process
    rejected = ebh({name: process.log_e for name, process in processes.items()}, alpha=0.01)
    assert rejected == {"endpoint-0", "endpoint-1", "endpoint-2"}
