"""Many triggers: the convolution against integers, invariances, both nulls, and error rates."""

import math
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tokenizers import Tokenizer

from sif_offline.fingerprint.combining import log_fisher_pvalue
from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.scoring import (
    INDEPENDENT_TEXT,
    UNRELATED_MODEL,
    ResponseScore,
    combine,
    score_ids,
    sidak_log_pvalue,
)
from sif_offline.fingerprint.tails import hypergeometric, log_tail_of_sum

V, N_G = 4096, 2048


def make(
    greens: int, types: int, *, vocab_size: int = V, green_size: int = N_G, name: str = ""
) -> ResponseScore:
    return ResponseScore.from_counts(
        greens=greens, types=types, vocab_size=vocab_size, green_size=green_size, trigger_id=name
    )


def integer_tail(sizes: list[int], total: int, vocab_size: int, green_size: int) -> Fraction:
    """Convolution of the hypergeometric counts in integers."""
    ways = {0: 1}
    for types in sizes:
        following: dict[int, int] = {}
        for k in range(types + 1):
            if types - k <= vocab_size - green_size:
                weight = math.comb(green_size, k) * math.comb(vocab_size - green_size, types - k)
                for s, w in ways.items():
                    following[s + k] = following.get(s + k, 0) + w * weight
        ways = following
    return Fraction(
        sum(w for s, w in ways.items() if s >= total), math.prod(math.comb(vocab_size, t) for t in sizes)
    )


@settings(max_examples=60)
@given(data=st.data())
def test_pooled_p_against_integers(data: st.DataObject) -> None:
    vocab_size = data.draw(st.integers(2, 60))
    green_size = data.draw(st.integers(1, vocab_size - 1))
    sizes = data.draw(st.lists(st.integers(0, min(vocab_size, 25)), min_size=1, max_size=5))
    total = data.draw(st.integers(0, sum(sizes) + 1))
    exact = integer_tail(sizes, total, vocab_size, green_size)
    log_p = log_tail_of_sum([hypergeometric(vocab_size, green_size, types) for types in sizes], total)
    assert (log_p == -math.inf) if exact == 0 else abs(math.exp(log_p) / float(exact) - 1) < 1e-11


def test_pooled_p_deep_in_the_tail() -> None:
    """12 answers of 30 types, 29 green each at gamma = .1: p = 1e-331, beneath the doubles."""
    sizes, total = [30] * 12, 29 * 12
    exact = integer_tail(sizes, total, V, 410)
    expected = math.log(int(exact * 10**400)) - 400 * math.log(10)
    combined = combine([make(29, 30, green_size=410) for _ in sizes])
    assert combined.log_pvalue == pytest.approx(expected, abs=1e-11)
    assert combined.pvalue == 0.0


def test_one_answer_combines_to_its_own_p() -> None:
    score = make(27, 35)
    combined = combine([score])
    assert combined.pvalue == pytest.approx(score.pvalue, rel=1e-12)
    assert combined.fisher_pvalue == pytest.approx(score.pvalue, rel=1e-12)
    assert combined.stouffer_z == pytest.approx(score.z)


def test_one_urn_for_all_keys_would_claim_too_much() -> None:
    """hypergeom(V, N_g, sum U), the tempting shortcut, is too small: drawing from one urn spreads less."""
    scores = [make(33, 60) for _ in range(30)]
    assert combine(scores).log_pvalue > make(33 * 30, 60 * 30).log_pvalue + math.log(8)


counts = st.lists(
    st.integers(0, 50).flatmap(lambda u: st.tuples(st.integers(0, u), st.just(u))), min_size=1, max_size=8
)


@given(pairs=counts, transfer=st.sampled_from([None, 0.0, 0.03]), data=st.data())
def test_order_of_triggers_does_not_matter(pairs: list, transfer: float | None, data: st.DataObject) -> None:
    scores = [make(g, u, name=f"t{i}") for i, (g, u) in enumerate(pairs)]
    one, other = (
        combine(scores, transfer=transfer),
        combine(data.draw(st.permutations(scores)), transfer=transfer),
    )
    assert one.log_pvalue == pytest.approx(other.log_pvalue, rel=1e-12, abs=1e-12)
    assert one.stouffer_z == pytest.approx(other.stouffer_z, abs=1e-12)
    assert one.fisher_pvalue == pytest.approx(other.fisher_pvalue, rel=1e-12)


def test_stouffer_and_fisher_against_scipy() -> None:
    scores = [make(20, 30), make(12, 20), make(40, 55), make(0, 3)]
    combined = combine(scores)
    weights = [math.sqrt(s.types) for s in scores]
    z = sum(w * s.z for w, s in zip(weights, scores, strict=True)) / math.sqrt(sum(w * w for w in weights))
    assert combined.stouffer_z == pytest.approx(z)
    assert combined.stouffer_pvalue == pytest.approx(stats.norm.sf(z))
    assert combined.fisher_pvalue == pytest.approx(stats.combine_pvalues([s.pvalue for s in scores]).pvalue)


def test_fisher_far_out() -> None:
    """x = 3,000 on 20 degrees of freedom, where scipy's logsf is -inf: the finite sum in integers."""
    exact = math.log(sum(Fraction(3000**j, math.factorial(j)) for j in range(10))) - 3000
    assert log_fisher_pvalue([-300.0] * 10) == pytest.approx(exact, rel=1e-14)
    assert log_fisher_pvalue([0.0, 0.0]) == 0.0
    assert log_fisher_pvalue([-math.inf]) == -math.inf


def test_answers_without_a_type_count_as_nothing() -> None:
    combined = combine([make(25, 30), make(0, 0)])
    assert (combined.answers, combined.types) == (2, 30)
    assert combined.pvalue == pytest.approx(make(25, 30).pvalue)
    assert combine([make(0, 0)]).pvalue == 1.0


def test_both_nulls_by_name() -> None:
    scores = [make(26, 36) for _ in range(6)]
    independent, unrelated = combine(scores), combine(scores, transfer=0.04)
    assert (independent.null, independent.gamma0) == (INDEPENDENT_TEXT, 0.5)
    assert (unrelated.null, unrelated.gamma0) == (UNRELATED_MODEL, pytest.approx(0.54))
    assert combine(scores, transfer=0.0).null == UNRELATED_MODEL, "a measured bound of 0 is still that null"
    assert unrelated.pvalue == pytest.approx(stats.binom.sf(6 * 26 - 1, 6 * 36, 0.54), rel=1e-9)


@given(pairs=counts, small=st.floats(0, 0.2), more=st.floats(0, 0.2))
def test_a_wider_null_never_gives_a_smaller_p(pairs: list, small: float, more: float) -> None:
    scores = [make(g, u) for g, u in pairs]
    narrow, wide = combine(scores, transfer=small), combine(scores, transfer=small + more)
    assert wide.log_pvalue >= narrow.log_pvalue - 1e-9
    if sum(u for _, u in pairs):
        assert wide.stouffer_z <= narrow.stouffer_z + 1e-9
    assert narrow.log_pvalue >= combine(scores).log_pvalue


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="pool the repeats"):
        combine([make(1, 2, name="a"), make(2, 2, name="a")])
    with pytest.raises(ValueError, match="different vocabularies"):
        combine([make(1, 2), make(1, 2, vocab_size=100, green_size=50)])
    with pytest.raises(ValueError, match="no scores"):
        combine([])
    for transfer in (-0.01, 0.5):
        with pytest.raises(ValueError, match="transfer"):
            combine([make(1, 2)], transfer=transfer)


def test_combined_p_is_super_uniform_over_random_keys(
    tokenizer_json: bytes, paragraphs: tuple[str, ...]
) -> None:
    """Four answers, 800 draws of four keys; false-alarm rate 5e-6 over five alphas and three combinations."""
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    texts = [tokenizer.encode(paragraph).ids for paragraph in paragraphs]
    combined = [
        combine(
            [score_ids(ids, mask=green_mask(key=4 * draw + i, vocab_size=V)) for i, ids in enumerate(texts)]
        )
        for draw in range(800)
    ]
    for pvalues in ([c.pvalue for c in combined], [c.fisher_pvalue for c in combined]):
        for alpha in (0.5, 0.2, 0.1, 0.05, 0.01):
            assert stats.binom.sf(sum(p <= alpha for p in pvalues) - 1, 800, alpha) > 5e-7
    # Stouffer's sd is 1 over keys; the sd of 800 normals strays beyond 1 +- .125 with probability 5e-7
    assert np.std([c.stouffer_z for c in combined]) == pytest.approx(1.0, abs=0.125)


def test_unrelated_model_null_holds_at_its_boundary() -> None:
    """Types green at gamma0 each, 4,000 audits of six answers; false-alarm rate 3e-6 over three alphas."""
    generator, gamma0 = np.random.default_rng(11), 0.55
    greens = generator.binomial(40, gamma0, size=(4000, 6)).sum(axis=1)
    cache = {g: combine(_spread(g), transfer=0.05).pvalue for g in set(greens.tolist())}
    pvalues = np.array([cache[g] for g in greens.tolist()])
    for alpha in (0.2, 0.05, 0.01):
        assert stats.binom.sf(int((pvalues <= alpha).sum()) - 1, 4000, alpha) > 1e-6
    naive = np.array([combine(_spread(g)).pvalue for g in greens.tolist()[:200]])
    assert (naive <= 0.01).mean() > 0.05, "testing gamma alone accuses the innocent"


def _spread(greens: int) -> list[ResponseScore]:
    """Six answers of 40 types with ``greens`` in all: the pooled test sees the sum alone."""
    return [make(min(40, max(0, greens - 40 * i)), 40) for i in range(6)]


def decimal_sidak(log_p: float, tries: int) -> float:
    """log(1 - (1 - p)^M) in 3,000 digits, where no p here vanishes beside 1."""
    context = Context(prec=3000, Emin=-(10**9), Emax=10**9)
    p = context.exp(Decimal(log_p))
    miss = context.power(context.subtract(Decimal(1), p), tries)
    return float(context.ln(context.subtract(Decimal(1), miss)))


@pytest.mark.parametrize("tries", [2, 1000, 10**6])
@pytest.mark.parametrize("p", [1e-300, 1e-17, 3e-9, 2e-8, 1e-5, 0.01, 0.49, 0.51, 0.999])
def test_counting_keys_keeps_its_digits(p: float, tries: int) -> None:
    ours, exact = sidak_log_pvalue(math.log(p), tries=tries), decimal_sidak(math.log(p), tries)
    if exact < -1e-300:  # beyond that 1 - (1 - p)^M is 1 to the last bit of a double
        assert ours == pytest.approx(exact, rel=1e-13, abs=1e-300)
    else:
        assert ours == pytest.approx(0.0, abs=1e-300)


def test_counting_keys_far_out() -> None:
    """M = 1e6 at p = 1e-300 is M p to the last digit; beneath the doubles only the log speaks."""
    adjusted = sidak_log_pvalue(math.log(1e-300), tries=10**6)
    assert adjusted == pytest.approx(math.log(1e-294), abs=1e-12)
    assert math.exp(adjusted) == pytest.approx(1e-294, rel=1e-12)
    assert sidak_log_pvalue(-5000.0, tries=10**6) == pytest.approx(math.log(1e6) - 5000, abs=1e-12)
    assert sidak_log_pvalue(-math.inf, tries=9) == -math.inf
    assert sidak_log_pvalue(0.0, tries=9) == 0.0
    assert sidak_log_pvalue(math.log(0.9), tries=10**9) == 0.0


@given(log_p=st.floats(-1e4, 0), tries=st.integers(1, 10**9), more=st.integers(1, 10**9))
def test_counting_keys_is_between_p_and_bonferroni(log_p: float, tries: int, more: int) -> None:
    adjusted = sidak_log_pvalue(log_p, tries=tries)
    assert log_p - 1e-12 * abs(log_p) <= adjusted <= min(0.0, log_p + math.log(tries) + 1e-9)
    assert sidak_log_pvalue(log_p, tries=tries + more) >= adjusted - 1e-9
    assert sidak_log_pvalue(log_p, tries=1) == log_p


def test_combine_counts_keys() -> None:
    scores = [make(26, 36) for _ in range(6)]
    one, many = combine(scores), combine(scores, keys_tried=1000)
    assert (one.keys_tried, one.adjusted_log_pvalue, one.adjusted_pvalue) == (1, one.log_pvalue, one.pvalue)
    assert (many.log_pvalue, many.pvalue) == (one.log_pvalue, one.pvalue), "the p of these keys stays"
    assert many.adjusted_pvalue == pytest.approx(1 - (1 - one.pvalue) ** 1000, rel=1e-6)
    assert many.adjusted_log_pvalue == pytest.approx(math.log(many.adjusted_pvalue))
    unrelated = combine(scores, transfer=0.02, keys_tried=3)
    assert unrelated.adjusted_log_pvalue == sidak_log_pvalue(unrelated.log_pvalue, tries=3)
    for bad in (0, -1):
        with pytest.raises(ValueError, match="impossible tries"):
            combine(scores, keys_tried=bad)
    with pytest.raises(ValueError, match="impossible tries"):
        sidak_log_pvalue(0.1, tries=2)


def test_searching_keys_and_counting_them_keeps_the_level(
    tokenizer_json: bytes, paragraphs: tuple[str, ...]
) -> None:
    """The best of 20 keys on one text, 300 times; false-alarm rate 3e-6 over three alphas."""
    ids = Tokenizer.from_buffer(tokenizer_json).encode(paragraphs[0]).ids
    uncounted, counted = [], []
    for draw in range(300):
        keys = range(20 * draw, 20 * draw + 20)
        best = min(
            (score_ids(ids, mask=green_mask(key=10**6 + k, vocab_size=V)) for k in keys),
            key=lambda s: s.pvalue,
        )
        uncounted.append(combine([best]).pvalue)
        counted.append(combine([best], keys_tried=20).adjusted_pvalue)
    for alpha in (0.2, 0.05, 0.01):
        assert stats.binom.sf(sum(p <= alpha for p in counted) - 1, 300, alpha) > 1e-6
    assert sum(p <= 0.05 for p in uncounted) > 100, "the best of 20 keys is significant by itself"
