"""The mixture e-value in closed form: check values, scipy, rational numbers, extremes."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from sif_offline.fingerprint import tails
from sif_offline.fingerprint.sequential import log_evalue_beta


@pytest.mark.parametrize(("greens", "reds", "expected"), [(80, 38, 6.1008909), (8, 2, 1.3867993)])
def test_closed_form_check_values(greens: int, reds: int, expected: float) -> None:
    assert log_evalue_beta(successes=greens, failures=reds, gamma=0.5) == pytest.approx(expected, abs=5e-8)


@given(
    greens=st.integers(0, 2000),
    reds=st.integers(0, 2000),
    gamma=st.floats(0.05, 0.95),
    a=st.floats(0.5, 20),
    b=st.floats(0.5, 20),
)
def test_closed_form_against_scipy(greens: int, reds: int, gamma: float, a: float, b: float) -> None:
    tail, prior = special.betaincc(a + greens, b + reds, gamma), special.betaincc(a, b, gamma)
    if tail < 1e-290 or prior < 1e-290:
        return  # where scipy's tail underflows, the next test speaks
    expected = special.betaln(a + greens, b + reds) - special.betaln(a, b) + math.log(tail) - math.log(prior)
    expected -= greens * math.log(gamma) + reds * math.log1p(-gamma)
    ours = log_evalue_beta(successes=greens, failures=reds, gamma=gamma, a=a, b=b)
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-8)


def test_closed_form_where_the_tail_underflows() -> None:
    """All types red: the mixture is the integral of 2 (2 (1 - q))^2000 over (1/2, 1), which is 1/2001."""
    expected = -math.log(2001)
    assert log_evalue_beta(successes=0, failures=2000, gamma=0.5) == pytest.approx(expected, rel=1e-9)


def test_closed_form_is_the_integral_over_bets() -> None:
    q = (np.arange(200_000) + 0.5) / 200_000 * 0.45 + 0.55
    logs = 30 * np.log(q / 0.55) + 12 * np.log((1 - q) / 0.45)
    assert log_evalue_beta(successes=30, failures=12, gamma=0.55) == pytest.approx(
        math.log(np.exp(logs).mean()), rel=1e-8
    )


@pytest.mark.parametrize(
    ("greens", "reds"),
    [(0, 0), (10**6, 10**6), (10**6, 0), (0, 10**6), (10**6, 999_000), (500, 10**6), (3, 10**6), (60, 2)],
)
@pytest.mark.parametrize("gamma", [1e-9, 0.03, 0.5, 0.6, 0.999, 1 - 1e-9])
def test_closed_form_at_large_counts_and_extreme_rates(greens: int, reds: int, gamma: float) -> None:
    """Against the binomial tail, which is summed and not continued: 1 - I_x(S+1, F+1) = P(Bin(S+F+1, x) <=
    S).
    """
    trials, binomial = greens + reds + 1, tails.binomial.__wrapped__  # 32 MB each: not to be cached
    tail = binomial(trials, 1 - gamma).log_tail(trials - greens)
    prior = binomial(1, 1 - gamma).log_tail(1)
    expected = special.betaln(1 + greens, 1 + reds) + tail - prior
    expected -= greens * math.log(gamma) + reds * math.log1p(-gamma)
    ours = log_evalue_beta(successes=greens, failures=reds, gamma=gamma)
    assert ours == pytest.approx(expected, rel=1e-9, abs=2e-8)


def test_closed_form_in_rational_numbers() -> None:
    """The mixture of q^S (1-q)^F over q in (3/5, 1) is 1/(1 - 3/5) times a finite sum of powers, exactly."""
    greens, reds, gamma = 9, 7, Fraction(3, 5)
    mixed = sum(
        Fraction((-1) ** j * math.comb(reds, j), greens + j + 1) * (1 - gamma ** (greens + j + 1))
        for j in range(reds + 1)
    ) / (1 - gamma)
    expected = math.log(mixed / (gamma**greens * (1 - gamma) ** reds))
    assert log_evalue_beta(successes=greens, failures=reds, gamma=0.6) == pytest.approx(expected, rel=1e-12)


@given(
    greens=st.integers(0, 10**6),
    reds=st.integers(0, 10**6),
    gamma=st.one_of(
        st.floats(1e-300, 1e-6), st.floats(1e-6, 1 - 1e-6), st.floats(1e-16, 1e-6).map(lambda g: 1 - g)
    ),
    a=st.sampled_from([0.5, 1.0, 3.0]),
    b=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_closed_form_is_finite_everywhere(greens: int, reds: int, gamma: float, a: float, b: float) -> None:
    value = log_evalue_beta(successes=greens, failures=reds, gamma=gamma, a=a, b=b)
    assert math.isfinite(value)
    more = log_evalue_beta(successes=greens + 1, failures=reds, gamma=gamma, a=a, b=b)
    assert more >= value - 1e-8 * (1 + abs(value)), "one green more is never less evidence"


@pytest.mark.parametrize(
    "bad",
    [
        {"successes": -1},
        {"failures": -1},
        {"gamma": 0.0},
        {"gamma": 1.0},
        {"a": 0.0},
        {"b": -1.0},
        {"failures": math.inf},
    ],
)
def test_impossible_arguments_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match="impossible counts or rate"):
        log_evalue_beta(**{"successes": 1, "failures": 1, "gamma": 0.5, **bad})
