"""Context scoring: units by hand, p against exact fractions, and p over random keys on real English."""

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tokenizers import Tokenizer

from sif_offline.fingerprint.context_scoring import ContextScore, score_context_ids
from sif_offline.fingerprint.greenlist import GreenListError, green_mask
from sif_offline.fingerprint.kgw import HASH_KEY, KGW_SCHEMES, hash_table, kgw_seeds
from sif_offline.fingerprint.scoring import score_ids, zscore

V = 1000
WIDTH = {name: scheme.context_width for name, scheme in KGW_SCHEMES.items()}
CONTEXT_SCHEMES = [name for name in KGW_SCHEMES if WIDTH[name]]


def window_ending_before(ids: list[int], place: int, scheme: str) -> tuple[int, ...]:
    end = place + KGW_SCHEMES[scheme].self_salted
    return tuple(ids[end - WIDTH[scheme] : end])


def convolved_pvalue(sizes: list[int], greens: int, vocab_size: int, green_size: int) -> Fraction:
    """P(sum >= greens) of independent hypergeometric counts, in integers."""
    ways = [1]
    for size in sizes:
        one = [
            math.comb(green_size, k) * math.comb(vocab_size - green_size, size - k) for k in range(size + 1)
        ]
        ways = [
            sum(ways[i] * one[k - i] for i in range(len(ways)) if 0 <= k - i < len(one))
            for k in range(len(ways) + size)
        ]
    return Fraction(sum(ways[greens:]), sum(ways))


@pytest.mark.parametrize("scheme", KGW_SCHEMES)
@pytest.mark.parametrize("gamma", [0.25, 0.5])
@given(ids=st.lists(st.integers(1, 12), max_size=60), key=st.integers(-(2**63), 2**63 - 1))
def test_the_score_is_that_of_the_distinct_pairs(scheme: str, gamma: float, ids: list[int], key: int) -> None:
    """Every colour from the whole list of its own context; no token 0, so every seed hangs on the key."""
    colours = {}
    for place in range(KGW_SCHEMES[scheme].skipped, len(ids)):
        window = window_ending_before(ids, place, scheme)
        (seed,) = kgw_seeds(key, np.array([window], dtype=np.int64), scheme)
        mask = green_mask(key=key, vocab_size=V, gamma=gamma, scheme=scheme, context=window)
        colours[seed, ids[place]] = bool(mask[ids[place]])
    sizes = Counter(seed for seed, _ in colours)
    greens, green_size = sum(colours.values()), int(V * gamma)
    score = score_context_ids(ids, key=key, vocab_size=V, gamma=gamma, scheme=scheme)
    assert (score.units, score.greens, score.seeds) == (len(colours), greens, len(sizes))
    assert (score.key_free, score.green_size) == (0, green_size)
    exact = convolved_pvalue(list(sizes.values()), greens, V, green_size)
    assert abs(Fraction(score.pvalue) / exact - 1) < Fraction(1, 10**12)
    assert score.log_pvalue == pytest.approx(math.log(score.pvalue), abs=1e-15)
    assert score.green_share == (greens / len(colours) if colours else 0.0)


@given(ids=st.lists(st.integers(0, V - 1), max_size=80), key=st.integers(-5, 5))
def test_without_contexts_it_is_the_ordinary_score(ids: list[int], key: int) -> None:
    ours = score_context_ids(ids, key=key, vocab_size=V, scheme="kgw-simple-0")
    plain = score_ids(ids, mask=green_mask(key=key, vocab_size=V, scheme="kgw-simple-0"))
    assert (ours.units, ours.greens, ours.z) == (plain.types, plain.greens, pytest.approx(plain.z))
    assert ours.log_pvalue == pytest.approx(plain.log_pvalue, rel=1e-12, abs=1e-15)
    assert ours.seeds == (1 if ids else 0)


def test_what_cannot_be_scored() -> None:
    text = [7, 0, 3, 7, 0, 3, 7, 0, 4]
    # after token 0 come 3, 3 and 4: two distinct pairs that prove nothing
    score = score_context_ids(text, key=HASH_KEY, vocab_size=V, scheme="kgw-simple-1")
    assert (score.units, score.key_free) == (2, 2)  # (7, 0) and (3, 7)
    zeros = score_context_ids([0] * 6, key=HASH_KEY, vocab_size=V, scheme="kgw-minhash")
    assert (zeros.units, zeros.key_free, zeros.pvalue, zeros.z) == (0, 1, 1.0, 0.0)


@pytest.mark.parametrize("key", range(1, 30))
def test_minhash_leaves_out_what_token_0_decides(key: int) -> None:
    ids = [5, 0, 17, 3, 9]
    (seed,) = kgw_seeds(key, np.array([ids[:4]]), "kgw-minhash")
    score = score_context_ids(ids, key=key, vocab_size=V, scheme="kgw-minhash")
    fixed = seed == hash_table()[0] + 1
    assert (score.units, score.key_free) == ((0, 1) if fixed else (1, 0))


@pytest.mark.parametrize("scheme", KGW_SCHEMES)
def test_short_texts_prove_nothing(scheme: str) -> None:
    for length in range(KGW_SCHEMES[scheme].skipped + 1):
        score = score_context_ids([4] * length, key=1, vocab_size=V, scheme=scheme)
        assert (score.units, score.pvalue, score.z, score.green_share) == (0, 1.0, 0.0, 0.0)


def test_ignored_tokens_stay_in_the_context() -> None:
    ids, options = [5, 6, 7, 8, 9], {"key": 1, "vocab_size": V, "scheme": "kgw-simple-1"}
    whole = score_context_ids(ids, **options)
    without = score_context_ids(ids, ignore={7}, **options)
    assert (whole.units, without.units) == (4, 3)
    (green,) = green_mask(context=[6], **options)[[7]]
    assert without.greens == whole.greens - green
    assert score_context_ids(np.array(ids), **options) == whole


def test_the_displayed_z() -> None:
    score = score_context_ids([3, 4] * 5 + [5], key=1, vocab_size=V, scheme="kgw-simple-1")
    # pairs after 3: 4; after 4: 3 and 5
    variance = stats.hypergeom.var(V, V // 2, 1) + stats.hypergeom.var(V, V // 2, 2)
    assert score.units == 3
    assert score.z == pytest.approx((score.greens - 1.5) / math.sqrt(variance))
    lone = score_context_ids([3, 4], key=1, vocab_size=V, scheme="kgw-simple-1")
    assert lone.z == pytest.approx(zscore(greens=lone.greens, types=1, vocab_size=V, green_size=V // 2))


@pytest.mark.parametrize("scheme", CONTEXT_SCHEMES)
def test_a_watermarked_text_is_found_by_its_key_alone(scheme: str) -> None:
    """Each next token is the first green one of eight. False-alarm rate of the second claim: 1e-6."""
    generator = np.random.default_rng(4)
    ids = generator.integers(1, V, size=4).tolist()
    while len(ids) < 120:
        candidates = generator.integers(1, V, size=8).tolist()
        for candidate in candidates:
            ids.append(candidate)
            window = window_ending_before(ids, len(ids) - 1, scheme)
            if green_mask(key=77, vocab_size=V, scheme=scheme, context=window)[candidate]:
                break
            ids.pop()
    assert score_context_ids(ids, key=77, vocab_size=V, scheme=scheme).pvalue < 1e-25
    assert score_context_ids(ids, key=78, vocab_size=V, scheme=scheme).pvalue > 1e-6


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"scheme": "unigram-philox-v1"}, "has no contexts; score_ids scores it"),
        ({"scheme": "kgw"}, "unknown green-list scheme 'kgw'"),
        ({"key": 2**63}, "64-bit"),
        ({"gamma": 1.5}, "gamma"),
    ],
)
def test_impossible_lists_are_refused(bad: dict, message: str) -> None:
    with pytest.raises(GreenListError, match=message):
        score_context_ids([1, 2], **{"key": 0, "vocab_size": V, "scheme": "kgw-simple-1", **bad})


@pytest.mark.parametrize("bad", [[-1], [V, 3], [5, 5, V + 3]])
def test_ids_outside_the_vocabulary_are_refused(bad: list[int]) -> None:
    with pytest.raises(ValueError, match=r"outside the vocabulary 0 \.\. 999"):
        score_context_ids(bad, key=0, vocab_size=V, scheme="kgw-simple-1")


# --- p over random keys -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def english(tokenizer_json: bytes, paragraphs: tuple[str, ...]) -> list[int]:
    """About 200 tokens of ordinary English that says one paragraph twice."""
    text = " ".join([paragraphs[0], paragraphs[1], paragraphs[0]])
    return Tokenizer.from_buffer(tokenizer_json).encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def over_keys(english: list[int]) -> Callable[[str], list[ContextScore]]:
    keys = np.random.default_rng(11).integers(-(2**63), 2**63 - 1, size=800).tolist()
    return lambda scheme: [
        score_context_ids(english, key=key, vocab_size=V, gamma=0.25, scheme=scheme) for key in keys
    ]


def excess_of_small_pvalues(pvalues: np.ndarray) -> float:
    """Smallest binomial tail of #{p <= alpha} against Binomial(n, alpha), over five alphas."""
    return min(
        float(stats.binom.sf(int((pvalues <= alpha).sum()) - 1, len(pvalues), alpha))
        for alpha in (0.5, 0.2, 0.1, 0.05, 0.01)
    )


@pytest.mark.parametrize("scheme", CONTEXT_SCHEMES)
def test_p_is_super_uniform_over_random_keys(over_keys: Callable, english: list[int], scheme: str) -> None:
    """False-alarm rate 5e-6 a scheme: five binomial tails, each held to 1e-6."""
    scores = over_keys(scheme)
    assert scores[0].units < 0.8 * len(english), "the text must repeat itself, or the test shows nothing"
    assert excess_of_small_pvalues(np.array([score.pvalue for score in scores])) > 1e-6


def test_counting_repeated_bigrams_would_not_be(english: list[int]) -> None:
    """The test above can fail: the z of all bigrams, repeats included, does."""
    pairs = Counter(pairwise(english))
    generator = np.random.default_rng(12)
    # a fresh colour for each pair: what a fresh key gives
    colours = generator.random((800, len(pairs))) < 0.25
    total = sum(pairs.values())
    counts = colours @ np.array(list(pairs.values()))
    naive = stats.norm.sf((counts - total / 4) / math.sqrt(total * 3 / 16))
    assert excess_of_small_pvalues(naive) < 1e-6
