"""One response: the exact p against scipy and against integers, and p over random keys on real English."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tokenizers import Tokenizer

from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.scoring import (
    ResponseScore,
    exact_pvalue,
    log_exact_pvalue,
    pool_ids,
    score_ids,
    zscore,
)

V, N_G = 4096, 2048
KEYS = 3000


def exact_fraction(greens: int, types: int, vocab_size: int, green_size: int) -> Fraction:
    """The hypergeometric tail in integers."""
    ways = sum(
        math.comb(green_size, k) * math.comb(vocab_size - green_size, types - k)
        for k in range(greens, min(types, green_size) + 1)
        if types - k <= vocab_size - green_size
    )
    return Fraction(ways, math.comb(vocab_size, types))


@pytest.mark.parametrize("types", [1, 5, 20, 60, 200, 400])
def test_agrees_with_scipy_to_1e_12(types: int) -> None:
    for greens in sorted({0, 1, types // 3, types // 2, types // 2 + 1, 3 * types // 4, types - 1, types}):
        reference = stats.hypergeom.sf(greens - 1, V, N_G, types)
        assert exact_pvalue(greens=greens, types=types, vocab_size=V, green_size=N_G) == pytest.approx(
            reference, rel=1e-12
        )


@pytest.mark.parametrize(
    ("greens", "types", "vocab_size", "green_size"),
    [
        (30, 40, 4096, 2048),
        (12, 40, 4096, 2048),
        (800, 900, 4096, 2048),
        (700, 1000, 152064, 76032),
        (985, 1000, 152064, 76032),  # p = 3e-270
        (600, 1000, 152064, 38016),
        (3, 8, 10, 5),
        (5, 8, 10, 5),
    ],
)
def test_agrees_with_integers_to_1e_12(greens: int, types: int, vocab_size: int, green_size: int) -> None:
    """scipy itself is off by 6e-12 at V = 152,064; integers are not."""
    exact = exact_fraction(greens, types, vocab_size, green_size)
    ours = exact_pvalue(greens=greens, types=types, vocab_size=vocab_size, green_size=green_size)
    assert abs(Fraction(ours) / exact - 1) < Fraction(1, 10**12)


@given(data=st.data())
def test_agrees_with_integers_everywhere(data: st.DataObject) -> None:
    vocab_size = data.draw(st.integers(2, 300))
    green_size = data.draw(st.integers(1, vocab_size - 1))
    types = data.draw(st.integers(0, vocab_size))
    greens = data.draw(st.integers(0, types + 1))
    exact = exact_fraction(greens, types, vocab_size, green_size)
    ours = exact_pvalue(greens=greens, types=types, vocab_size=vocab_size, green_size=green_size)
    assert (ours == 0) if exact == 0 else abs(Fraction(ours) / exact - 1) < Fraction(1, 10**12)


def exact_log(greens: int, types: int, vocab_size: int, green_size: int) -> float:
    """Log of the tail from integers, however small; off by less than 1e-12."""
    exact = exact_fraction(greens, types, vocab_size, green_size)
    bits = exact.denominator.bit_length() - exact.numerator.bit_length()
    return math.log(Fraction(exact.numerator << bits, exact.denominator)) - bits * math.log(2)


# gamma .5 and .25; p from .5 down to 1e-1200
DEEP = [
    (types, greens, vocab_size, vocab_size // parts)
    for vocab_size in (4096, 50257, 152064)
    for parts in (2, 4)
    for types in (60, 200, 1000)
    for greens in (types // parts, 3 * types // 4, types - types // 40, types)
]


@pytest.mark.parametrize(("types", "greens", "vocab_size", "green_size"), DEEP)
def test_agrees_with_integers_at_every_depth(
    types: int, greens: int, vocab_size: int, green_size: int
) -> None:
    """The log to 1e-12 absolutely, which is p to 1e-12 relatively, below the doubles too."""
    reference = exact_log(greens, types, vocab_size, green_size)
    ours = log_exact_pvalue(greens=greens, types=types, vocab_size=vocab_size, green_size=green_size)
    assert abs(ours - reference) < 1e-12
    if reference > -690:  # above 1e-300
        ours = exact_pvalue(greens=greens, types=types, vocab_size=vocab_size, green_size=green_size)
        assert ours == pytest.approx(math.exp(reference), rel=1e-12, abs=0)


def test_some_of_those_are_below_1e_300() -> None:
    assert sum(exact_log(greens, types, v, n) < -690 for types, greens, v, n in DEEP) >= 6


@pytest.mark.parametrize(("types", "greens", "vocab_size", "green_size"), DEEP)
def test_agrees_with_scipy_as_far_as_scipy_goes(
    types: int, greens: int, vocab_size: int, green_size: int
) -> None:
    """scipy 1.17 against integers, on these counts: ``sf`` is off by 3e-15 at most at V <= 50,257 and by
    3e-11 at 152,064, and gives 0 below the doubles; ``logsf``, which takes differences of log-gammas, is off
    by 7e-12 at V = 4,096 and 7e-10 at 152,064. The test above holds ours to 1e-12 throughout.
    """
    log_p = log_exact_pvalue(greens=greens, types=types, vocab_size=vocab_size, green_size=green_size)
    if log_p > -690:
        assert math.exp(log_p) == pytest.approx(
            stats.hypergeom.sf(greens - 1, vocab_size, green_size, types),
            rel=1e-12 if vocab_size <= 50257 else 1e-10,
            abs=0,
        )
    with np.errstate(divide="ignore"):
        theirs = stats.hypergeom.logsf(greens - 1, vocab_size, green_size, types)
    assert abs(log_p - theirs) < 1e-8


def test_the_log_goes_on_below_the_doubles() -> None:
    exact = exact_fraction(2000, 2000, 152064, 76032)
    log_p = log_exact_pvalue(greens=2000, types=2000, vocab_size=152064, green_size=76032)
    scaled = math.log(int(exact * 10**1000)) - 1000 * math.log(10)
    assert exact_pvalue(greens=2000, types=2000, vocab_size=152064, green_size=76032) == 0.0
    assert log_p == pytest.approx(scaled, rel=1e-14)


def test_near_one_the_complement_is_kept() -> None:
    """P(G >= 1) at 60 types is 1 - 5e-19: its log is not 0."""
    below = exact_fraction(0, 60, V, N_G) - exact_fraction(1, 60, V, N_G)
    log_p = log_exact_pvalue(greens=1, types=60, vocab_size=V, green_size=N_G)
    assert log_p == pytest.approx(-float(below), rel=1e-12)


def test_impossible_counts_are_bugs() -> None:
    with pytest.raises(ValueError, match="impossible counts"):
        exact_pvalue(greens=1, types=11, vocab_size=10, green_size=5)
    with pytest.raises(ValueError, match="5 greens among 4"):
        ResponseScore.from_counts(greens=5, types=4, vocab_size=10, green_size=5)


def test_displayed_z() -> None:
    assert zscore(greens=20, types=20, vocab_size=10**9, green_size=5 * 10**8) == pytest.approx(math.sqrt(20))
    variance = stats.hypergeom.var(V, N_G, 40)
    assert zscore(greens=30, types=40, vocab_size=V, green_size=N_G) == pytest.approx(
        10 / math.sqrt(variance)
    )
    assert zscore(greens=0, types=0, vocab_size=V, green_size=N_G) == 0.0


ids_lists = st.lists(st.integers(0, V - 1), max_size=60)


@given(
    ids=ids_lists, key=st.integers(0, 20), repeats=st.lists(st.integers(0, 59), max_size=100), data=st.data()
)
def test_repeated_tokens_and_order_leave_the_score_unchanged(
    ids: list[int], key: int, repeats: list[int], data: st.DataObject
) -> None:
    mask = green_mask(key=key, vocab_size=V)
    repeated = ids + [ids[i % len(ids)] for i in repeats if ids]
    shuffled = data.draw(st.permutations(repeated))
    assert score_ids(shuffled, mask=mask) == score_ids(ids, mask=mask)
    assert score_ids(np.array(shuffled, dtype=np.int64), mask=mask) == score_ids(ids, mask=mask)


@given(first=ids_lists, second=ids_lists)
def test_pooled_repeats_are_one_text(first: list[int], second: list[int]) -> None:
    mask = green_mask(key=3, vocab_size=V)
    pooled = score_ids(pool_ids([first, second, first]), mask=mask)
    assert pooled.types == len({*first, *second})
    assert pooled == score_ids(pool_ids([second, first]), mask=mask)


def test_special_tokens_are_not_scored() -> None:
    mask = green_mask(key=0, vocab_size=V)
    assert score_ids([0, 1, 2, 7, 7], mask=mask, ignore={0, 1, 2}) == score_ids([7], mask=mask)


@pytest.mark.parametrize("bad", [[-1], [V], [5, 5, V + 3]])
def test_ids_outside_the_vocabulary_are_refused(bad: list[int]) -> None:
    with pytest.raises(ValueError, match=r"outside the vocabulary 0 \.\. 4095"):
        score_ids(bad, mask=green_mask(key=0, vocab_size=V))


def test_an_empty_answer_proves_nothing() -> None:
    score = score_ids([], mask=green_mask(key=0, vocab_size=V))
    assert (score.types, score.z, score.pvalue, score.green_share) == (0, 0.0, 1.0, 0.0)


# --- p over random keys -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def english(tokenizer_json: bytes, paragraphs: tuple[str, ...]) -> list[int]:
    """Token ids of about 400 tokens of ordinary English, heavy with repetition."""
    return Tokenizer.from_buffer(tokenizer_json).encode(" ".join(paragraphs), add_special_tokens=False).ids


@pytest.fixture(scope="module")
def over_keys(english: list[int]) -> Callable[[Callable[[np.ndarray], float]], np.ndarray]:
    masks = [green_mask(key=key, vocab_size=V) for key in range(1000, 1000 + KEYS)]
    return lambda statistic: np.array([statistic(mask) for mask in masks])


def excess_of_small_pvalues(pvalues: np.ndarray) -> float:
    """Smallest binomial tail of #{p <= alpha} against Binomial(n, alpha), over five alphas."""
    return min(
        float(stats.binom.sf(int((pvalues <= alpha).sum()) - 1, len(pvalues), alpha))
        for alpha in (0.5, 0.2, 0.1, 0.05, 0.01)
    )


def test_p_is_super_uniform_over_random_keys(over_keys: Callable, english: list[int]) -> None:
    """False-alarm rate 5e-6: five binomial tails, each held to 1e-6."""
    assert len(set(english)) < 0.6 * len(english), "the text must repeat itself, or the test shows nothing"
    assert excess_of_small_pvalues(over_keys(lambda mask: score_ids(english, mask=mask).pvalue)) > 1e-6


def test_counting_repeats_would_not_be(over_keys: Callable, english: list[int]) -> None:
    """The test above can fail: the z of all tokens, repeats included, does."""
    n, ids = len(english), np.array(english)
    naive = over_keys(lambda mask: stats.norm.sf((mask[ids].sum() - n / 2) / math.sqrt(n / 4)))
    assert excess_of_small_pvalues(naive) < 1e-12


def test_p_is_uniform_only_after_randomising_ties(over_keys: Callable, english: list[int]) -> None:
    """False-alarm rate 1e-6 for the first claim; the second is missed with probability < 1e-6."""
    scores: list[ResponseScore] = list(over_keys(lambda mask: score_ids(english, mask=mask)))
    above = [exact_pvalue(greens=s.greens + 1, types=s.types, vocab_size=V, green_size=N_G) for s in scores]
    ties = np.array([s.pvalue for s in scores]) - above
    randomised = np.array(above) + np.random.default_rng(5).uniform(size=KEYS) * ties
    assert stats.kstest(randomised, "uniform").pvalue > 1e-6
    assert stats.kstest([s.pvalue for s in scores], "uniform").pvalue < 1e-6
