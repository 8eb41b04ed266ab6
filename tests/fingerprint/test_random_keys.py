"""Random-key null: its law against the exact one and against real keys, and its p."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sif_offline.fingerprint.greenlist import GreenListError, green_mask
from sif_offline.fingerprint.random_keys import (
    green_types,
    random_key_null,
    real_key_null,
    scored_types,
)
from sif_offline.fingerprint.response import score_ids

V, N_G = 300, 150
TEXT = [int(i) for i in np.random.default_rng(8).zipf(1.4, size=200) if i < V]
MASK = green_mask(key=5, vocab_size=V)
TYPES, COUNTS = np.unique(TEXT, return_counts=True)
U = len(TYPES)


def recorded(function, **options) -> tuple[np.ndarray, object]:
    """The colours that a statistic is shown, the key on trial's first, and the result."""
    blocks = []

    def statistic(colours: np.ndarray) -> np.ndarray:
        blocks.append(colours.copy())
        return green_types(colours)

    result = function(TEXT, mask=MASK, statistic=statistic, **options)
    return np.concatenate(blocks), result


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    return recorded(random_key_null, keys=20_000, seed=1)[0][1:]


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return recorded(real_key_null, keys=4000, seed=2, scheme="unigram-philox-v1")[0][1:]


def chi_square_pvalue(colours: np.ndarray) -> float:
    """Green counts against the hypergeometric law, cells of expectation 5 at least."""
    pmf = stats.hypergeom.pmf(np.arange(U + 1), V, N_G, U) * len(colours)
    kept = np.flatnonzero(pmf >= 5)
    cells = np.clip(green_types(colours), kept[0], kept[-1])
    expected = pmf[kept]
    expected[0] += pmf[: kept[0]].sum()
    expected[-1] += pmf[kept[-1] + 1 :].sum()
    observed = np.bincount(cells, minlength=U + 1)[kept]
    return float(stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue)


@pytest.mark.parametrize("source", ["drawn", "real"])
def test_the_greens_are_hypergeometric(source: str, request: pytest.FixtureRequest) -> None:
    """Real keys of unigram-philox-v1 and the drawn colours alike. False-alarm rate 1e-6 each."""
    assert chi_square_pvalue(request.getfixturevalue(source)) > 1e-6


def test_independent_colours_would_be_noticed() -> None:
    """The test above can fail: coins in place of draws without replacement are too variable at U/V = 1/6."""
    assert U / V > 0.1
    coins = np.random.default_rng(3).random((20_000, U)) < N_G / V
    assert chi_square_pvalue(coins) < 1e-6


@pytest.mark.parametrize("source", ["drawn", "real"])
def test_every_type_is_as_likely_green(source: str, request: pytest.FixtureRequest) -> None:
    """Shares of single types, and of pairs against (N_g - 1)/(V - 1), within 6 sd: false-alarm rate 1e-5."""
    colours = request.getfixturevalue(source)
    assert np.abs(colours.mean(axis=0) - 0.5).max() < 6 * 0.5 / len(colours) ** 0.5
    both = (colours[:, :-1] & colours[:, 1:]).mean(axis=0)
    expected = 0.5 * (N_G - 1) / (V - 1)
    assert np.abs(both - expected).max() < 6 * (expected * (1 - expected) / len(colours)) ** 0.5


def test_a_weighted_statistic_has_one_law_under_drawn_and_real_keys(
    drawn: np.ndarray, real: np.ndarray
) -> None:
    """Two-sample Kolmogorov-Smirnov, conservative for ties: false-alarm rate at most 1e-6."""
    assert stats.ks_2samp(drawn @ COUNTS, real @ COUNTS).pvalue > 1e-6


@pytest.mark.parametrize("key", range(6))
def test_the_default_p_is_the_exact_p_but_for_chance(key: int) -> None:
    """The count reached is Binomial(K, exact p): false-alarm rate 1e-6 a key."""
    mask = green_mask(key=key, vocab_size=V)
    exact = score_ids(TEXT, mask=mask)
    found = random_key_null(TEXT, mask=mask, keys=50_000, seed=key)
    assert (found.statistic, found.types, found.green_size) == (exact.greens, exact.types, exact.green_size)
    assert found.pvalue == (1 + found.at_least) / 50_001
    assert stats.binomtest(found.at_least, 50_000, exact.pvalue).pvalue > 1e-6


def test_p_of_a_weighted_statistic_is_super_uniform_over_keys() -> None:
    """Repeats counted, which no hypergeometric p allows. False-alarm rate 3e-6: three binomial tails."""
    pvalues = np.array(
        [
            random_key_null(
                TEXT,
                mask=green_mask(key=key, vocab_size=V),
                keys=199,
                statistic=lambda colours: colours @ COUNTS,
                seed=key,
            ).pvalue
            for key in range(1000)
        ]
    )
    for alpha in (0.2, 0.05, 0.01):
        assert stats.binom.sf((pvalues <= alpha).sum() - 1, 1000, alpha) > 1e-6
    # and it is no idle test: alpha is nearly used up
    assert (pvalues <= 0.2).mean() > 0.1


def test_columns_are_the_distinct_types_in_order() -> None:
    colours, _ = recorded(random_key_null, keys=10, seed=0)
    assert (scored_types(TEXT) == TYPES).all()
    assert (colours[0] == MASK[TYPES]).all()
    assert colours.shape == (11, U)
    assert (scored_types(np.array(TEXT), ignore={int(TYPES[0])}) == TYPES[1:]).all()


def test_repeats_and_ignored_tokens_do_not_count() -> None:
    first = random_key_null(TEXT, mask=MASK, keys=500, seed=4)
    again = random_key_null([*reversed(TEXT), *TEXT], mask=MASK, keys=500, seed=4)
    assert first == again
    ignored = random_key_null([*TEXT, 299, 298], mask=MASK, keys=500, seed=4, ignore={298, 299})
    assert ignored == first


def test_many_keys_come_in_blocks() -> None:
    sizes = []
    ids = range(2000)
    mask = green_mask(key=1, vocab_size=4096)

    def statistic(colours: np.ndarray) -> np.ndarray:
        sizes.append(len(colours))
        return green_types(colours)

    found = random_key_null(ids, mask=mask, keys=10_000, statistic=statistic, seed=1)
    assert sizes[0] == 1
    assert len(sizes) > 2
    assert sum(sizes[1:]) == found.keys == 10_000
    assert found.mean == pytest.approx(1000, abs=1.5)
    assert found.sd == pytest.approx(stats.hypergeom.std(4096, 2048, 2000), rel=0.05)


def test_without_a_seed_the_draws_differ() -> None:
    """Two means over 100 keys of a continuous statistic agree with probability 0."""
    weights = np.random.default_rng(0).random(U)
    found = [
        random_key_null(TEXT, mask=MASK, keys=100, statistic=lambda colours: colours @ weights)
        for _ in range(2)
    ]
    assert found[0].mean != found[1].mean


def test_equal_sums_count_as_reached_whatever_their_rounding() -> None:
    """Every type with the same weight .1: a tie with the key on trial must not be lost to the last bit."""
    tenths = random_key_null(
        TEXT,
        mask=MASK,
        keys=5000,
        seed=6,
        statistic=lambda c: np.array([sum([0.1] * n) for n in c.sum(axis=1)]),
    )
    shuffled = random_key_null(
        TEXT,
        mask=MASK,
        keys=5000,
        seed=6,
        statistic=lambda c: c.sum(axis=1) * 0.1 if len(c) > 1 else c.sum(axis=1) * 0.1 * (1 + 1e-15),
    )
    plain = random_key_null(TEXT, mask=MASK, keys=5000, seed=6)
    assert tenths.at_least == shuffled.at_least == plain.at_least


@given(ids=st.lists(st.integers(0, 9)), key=st.integers(0, 50), keys=st.integers(1, 40))
def test_p_is_never_zero_and_an_empty_text_proves_nothing(ids: list[int], key: int, keys: int) -> None:
    found = random_key_null(ids, mask=green_mask(key=key, vocab_size=10), keys=keys, seed=1)
    assert 1 / (keys + 1) <= found.pvalue <= 1
    assert found.keys == keys
    if len(set(ids)) in (0, 10):
        assert (found.pvalue, found.sd) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"keys": 0}, "0 keys: at least one"),
        ({"ids": [V]}, r"outside the vocabulary 0 \.\. 299"),
        ({"ids": [-1]}, "outside the vocabulary"),
        ({"statistic": lambda colours: colours}, "the statistic of 1 keys is not 1 finite numbers"),
        ({"statistic": lambda colours: np.full(len(colours), np.nan)}, "finite"),
        ({"statistic": lambda colours: 3.0}, "finite"),
    ],
)
def test_mistakes_are_refused(bad: dict, message: str) -> None:
    options = {"ids": TEXT, "mask": MASK, **bad}
    with pytest.raises(ValueError, match=message):
        random_key_null(options.pop("ids"), **options)


def test_real_keys_need_the_scheme_of_the_mask() -> None:
    with pytest.raises(ValueError, match=r"no unigram-philox-v1 list with gamma 0\.25"):
        real_key_null(TEXT, mask=MASK, scheme="unigram-philox-v1", gamma=0.25)
    with pytest.raises(GreenListError, match="needs a context"):
        real_key_null(TEXT, mask=MASK, scheme="kgw-simple-1", keys=1)
