"""Calibration: what n null models can and cannot say, floors, and the coverage of the transfer bound."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sif_offline.fingerprint.calibration import (
    Calibration,
    CalibrationError,
    calibrate,
    check_claims,
    exact_quantile,
)
from sif_offline.fingerprint.scoring import ResponseScore, combine

V, N_G = 4096, 2048


def make(greens: int, types: int, name: str = "t") -> ResponseScore:
    return ResponseScore.from_counts(
        greens=greens, types=types, vocab_size=V, green_size=N_G, trigger_id=name
    )


@given(types=st.integers(1, 150), alpha=st.sampled_from([0.05, 0.01, 1e-3, 1e-6]))
def test_exact_quantile(types: int, alpha: float) -> None:
    quantile = exact_quantile(types, V, N_G, alpha=alpha)
    assert quantile > types or stats.hypergeom.sf(quantile - 1, V, N_G, types) <= alpha
    assert stats.hypergeom.sf(quantile - 2, V, N_G, types) > alpha


def test_tau_is_the_exact_quantile_while_null_models_stay_below_it() -> None:
    row = calibrate({"a": {"t": make(14, 30)}, "b": {"t": make(16, 34)}}).rows[0]
    assert row.tau == exact_quantile(30, V, N_G, alpha=0.05) / 30
    assert (row.n_models, row.types) == (2, 30)
    assert row.mu == pytest.approx((14 / 30 + 16 / 34) / 2)
    assert "2 null models: a 1/3 test" in row.statement
    assert "exact 0.95 quantile" in row.statement


def test_tau_is_the_largest_null_share_beyond_it() -> None:
    row = calibrate({"a": {"t": make(28, 30)}, "b": {"t": make(16, 34)}}).rows[0]
    assert row.tau == row.null_max == 28 / 30
    assert "largest null share" in row.statement


@given(
    nulls=st.lists(
        st.integers(1, 60).flatmap(lambda u: st.tuples(st.integers(0, u), st.just(u))), min_size=1, max_size=5
    ),
    types=st.integers(1, 80),
)
def test_tau_is_never_below_the_exact_quantile(nulls: list, types: int) -> None:
    shares = {f"m{i}": {"t": make(g, u)} for i, (g, u) in enumerate(nulls)}
    if sum(g for g, _ in nulls) / sum(u for _, u in nulls) > 0.6:
        return  # such null models may be refused; see below
    try:
        row = calibrate(shares).rows[0]
    except CalibrationError:
        return
    for u in (row.types, types):
        tau = row.tau_for(u)
        assert tau >= exact_quantile(u, V, N_G, alpha=0.05) / u
        assert tau >= max(g / n for g, n in nulls)
        flagged = [g for g in range(u + 1) if row.exceeded_by(make(g, u))]
        assert all(g / u >= tau for g in flagged)
        assert all(make(g, u).pvalue <= 0.05 for g in flagged)


def test_sigma_is_never_below_that_of_independent_text() -> None:
    """Two null models that agree by chance do not make an answer ten sigma."""
    row = calibrate({"a": {"t": make(15, 30)}, "b": {"t": make(15, 30)}}).rows[0]
    assert row.sigma == pytest.approx(stats.hypergeom.std(V, N_G, 30) / 30, rel=1e-12)
    assert row.calibrated_z(make(24, 30)) == pytest.approx(make(24, 30).z)
    wide = calibrate({"a": {"t": make(5, 30)}, "b": {"t": make(25, 30)}}).rows[0]
    assert wide.sigma == pytest.approx(np.std([5 / 30, 25 / 30], ddof=1))


def test_one_null_model_says_so() -> None:
    calibration = calibrate({"a": {"t": make(15, 30)}})
    assert "1 null model: topping all of them is a 1/2 test" in calibration.statement
    assert "1/2 test" in calibration.rows[0].statement
    for text in (calibration.statement, calibration.rows[0].statement, calibration.transfer.statement):
        assert "zero" not in text
        assert "\n" not in text


def test_missing_answers() -> None:
    calibration = calibrate(
        {"a": {"t0": make(15, 30), "t1": make(0, 0)}, "b": {"t0": make(14, 30), "t1": make(10, 20)}}
    )
    assert [(row.trigger_id, row.n_models) for row in calibration.rows] == [("t0", 2), ("t1", 1)]
    assert calibration.row("t1") is calibration.rows[1]
    assert calibration.row("t2") is None


def test_what_cannot_be_claimed_is_refused() -> None:
    with pytest.raises(CalibrationError, match="none was given"):
        calibrate({})
    with pytest.raises(CalibrationError, match="no scored answer from null model b"):
        calibrate({"a": {"t": make(15, 30)}, "b": {"t": make(0, 0)}})
    with pytest.raises(CalibrationError, match="no rate below 1"):
        calibrate({"a": {"t": make(30, 30)}})


def test_round_trip_through_json() -> None:
    calibration = calibrate({"a": {"t": make(15, 30)}, "b": {"t": make(20, 30)}})
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


def test_transfer_bound_covers_every_null_model_measured() -> None:
    scores = {
        "calm": {f"t{i}": make(15, 30, f"t{i}") for i in range(12)},
        "green": {f"t{i}": make(21, 30, f"t{i}") for i in range(12)},
    }
    transfer = calibrate(scores).transfer
    assert transfer.by_model == pytest.approx({"calm": 0.0, "green": 0.2})
    assert transfer.excess == pytest.approx(0.1)
    assert transfer.bound == pytest.approx(0.2)


def test_transfer_bound_is_never_negative() -> None:
    transfer = calibrate({"a": {f"t{i}": make(9, 60) for i in range(10)}}).transfer
    assert transfer.upper_limit < 0
    assert transfer.bound == 0.0


def test_transfer_upper_limit_has_its_level() -> None:
    """Two null models that say the same thing on 12 triggers, whose rate varies: 600 calibrations at 95 %.

    False-alarm rate 1e-6: misses are held below the 1 - 1e-6 quantile of Binomial(600, .07); .07 leaves
    room for the Student limit, which is approximate.
    """
    generator, misses, rate = np.random.default_rng(17), 0, 0.53
    for _ in range(600):
        rates = np.clip(generator.normal(rate, 0.06, size=12), 0, 1)
        one = generator.binomial(40, rates)
        scores = {m: {f"t{i}": make(int(g), 40) for i, g in enumerate(one)} for m in ("a", "b")}
        misses += calibrate(scores).transfer.upper_limit < rate - 0.5
    assert stats.binom.sf(misses - 1, 600, 0.07) > 1e-6
    assert misses > 0, "a limit that is never passed would be far too wide"


def test_the_bound_feeds_the_unrelated_model_null() -> None:
    transfer = calibrate({"a": {f"t{i}": make(16, 30) for i in range(12)}}).transfer
    scores = [make(17, 30, f"t{i}") for i in range(12)]
    assert combine(scores).pvalue < 0.05
    assert combine(scores, transfer=transfer.bound).pvalue > 0.2
    assert math.isclose(combine(scores, transfer=transfer.bound).gamma0, 0.5 + transfer.bound)


def pack_of(shares: dict[str, float], *, types: int = 30, triggers: int = 12) -> dict:
    """Null models that each answer every trigger with their own green share."""
    return {
        model: {f"t{i:02d}": make(round(share * types), types, f"t{i:02d}") for i in range(triggers)}
        for model, share in shares.items()
    }


def test_pooled_sigma_by_hand() -> None:
    """Two triggers, two models: chi-squared over 2 degrees of freedom, in units of independent text."""
    calibration = calibrate(
        {
            "a": {"t0": make(10, 30), "t1": make(14, 40)},
            "b": {"t0": make(20, 30), "t1": make(30, 40)},
        }
    )
    expected = sum(
        (g / u - share) ** 2 / (stats.hypergeom.var(V, N_G, u) / u**2)
        for g, u, share in ((10, 30, 0.5), (20, 30, 0.5), (14, 40, 0.55), (30, 40, 0.55))
    )
    assert calibration.dispersion == pytest.approx(expected / 2)
    assert calibration.dispersion_degrees == 2
    for row in calibration.rows:
        text = stats.hypergeom.std(V, N_G, row.types) / row.types
        assert row.sigma_pooled == pytest.approx(text * math.sqrt(expected / 2))
        score = make(25, 30)
        assert row.pooled_z(score) == pytest.approx((25 / 30 - row.mu) / row.sigma_pooled)


def test_pooled_sigma_is_never_below_that_of_independent_text() -> None:
    calibration = calibrate(pack_of({"a": 0.5, "b": 0.5, "c": 0.5}))
    assert calibration.dispersion == 0
    assert calibration.rows[0].sigma_pooled == pytest.approx(stats.hypergeom.std(V, N_G, 30) / 30)


def test_pooling_steadies_the_spread() -> None:
    """Three innocent models on 12 triggers, 300 times: the pooled sd strays a third as far as the single one.

    Both have a floor; the sd of the single estimate over draws is compared with that of the pooled one. A
    ratio above 2 is far from what either run of the seeded generator gives.
    """
    generator, single, pooled = np.random.default_rng(4), [], []
    for _ in range(300):
        scores = {m: {f"t{i}": make(int(generator.binomial(30, 0.5)), 30) for i in range(12)} for m in "abc"}
        row = calibrate(scores).rows[0]
        single.append(row.sigma)
        pooled.append(row.sigma_pooled)
    assert np.std(single) > 2 * np.std(pooled)
    assert np.mean(pooled) == pytest.approx(0.5 / math.sqrt(30), rel=0.1)


def test_one_null_model_has_no_spread_and_cannot_be_held_out() -> None:
    calibration = calibrate(pack_of({"a": 0.55}))
    assert (calibration.dispersion, calibration.dispersion_degrees, calibration.held_out) == (None, 0, ())
    assert calibration.rows[0].sigma_pooled == calibration.rows[0].sigma
    assert (
        "with one null model it cannot be checked whether the bound holds for another"
        in calibration.statement
    )


def test_a_model_that_the_others_do_not_cover_is_named() -> None:
    """Three calm models and one that is green at .8: held out, it passes the bound of the calm ones."""
    calibration = calibrate(pack_of({"calm-1": 0.5, "calm-2": 0.53, "calm-3": 0.47, "green": 0.8}))
    held = {row.model: row for row in calibration.held_out}
    assert sorted(held) == list(calibration.null_models)
    assert held["green"].pvalue < 1e-6
    assert (held["green"].exceeded, held["green"].triggers, held["green"].n_others) == (12, 12, 3)
    assert held["green"].bound < 0.1
    assert all(held[name].pvalue > 0.5 and held[name].exceeded == 0 for name in held if name != "green")
    assert "1 of 4 null models (green) pass the others' bound at p <= 0.05" in calibration.statement
    alike = calibrate(pack_of({"a": 0.5, "b": 0.53, "c": 0.47}))
    assert "0 of 3 null models pass the others' bound" in alike.statement


def test_held_out_is_the_calibration_of_the_others() -> None:
    scores = pack_of({"a": 0.5, "b": 0.6, "c": 0.55})
    row = calibrate(scores).held_out[1]
    others = calibrate({name: scores[name] for name in ("a", "c")})
    assert row.bound == others.transfer.bound
    assert row.pvalue == combine(list(scores["b"].values()), transfer=others.transfer.bound).pvalue
    assert row.exceeded == sum(r.exceeded_by(scores["b"][r.trigger_id]) for r in others.rows)


def test_held_out_where_the_others_are_all_green_or_silent() -> None:
    scores = pack_of({"a": 0.5, "b": 0.5})
    scores["b"] = {"t00": make(29, 30)}
    held = {row.model: row for row in calibrate(scores).held_out}
    assert (held["a"].bound, held["a"].pvalue, held["a"].triggers) == (None, None, 1)
    assert held["b"].triggers == 1


def test_held_out_models_of_one_kind_rarely_pass_the_bound() -> None:
    """Four exchangeable innocents, 150 calibrations: at level .95 a held-out one passes in at most 6 %.

    False-alarm rate 1e-6. (The bound is at least the greenest of the others, so that it is mostly far less.)
    """
    generator, passed = np.random.default_rng(12), 0
    for _ in range(150):
        scores = {
            m: {f"t{i}": make(int(generator.binomial(30, 0.53)), 30) for i in range(12)} for m in "abcd"
        }
        passed += calibrate(scores).held_out[0].pvalue <= 0.05
    assert stats.binom.sf(passed - 1, 150, 0.06) > 1e-6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"models": 2, "claim_fmr": 0.05},
            r"2 null models: .* below 1/3 = 0\.333 .*; 0\.05 needs 19 null models",
        ),
        ({"models": 1, "claim_fmr": 0.4}, r"1 null model: .* below 1/2 = 0\.5 .*; 0\.4 needs 2 null models"),
        ({"models": 98, "claim_fmr": 0.01}, "needs 99 null models"),
        ({"models": 8, "claim_fmr": 0.0}, "false-match rate 0: lies between 0 and 1"),
        ({"models": 8, "claim_fmr": 1.5}, "lies between 0 and 1"),
        ({"models": 8, "claim_fmr": math.nan}, "lies between 0 and 1"),
        ({"models": 8, "alpha": 0.0}, "alpha 0: "),
        ({"models": 8, "alpha": 1.0}, "alpha 1: "),
        ({"models": 8, "level": 0.5}, r"level 0\.5: "),
        ({"models": 8, "level": 1.0}, "level 1: "),
    ],
)
def test_claims_beyond_the_null_models_are_refused(arguments: dict, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        check_claims(**{"alpha": 0.05, "level": 0.95, **arguments})


@pytest.mark.parametrize(("models", "rate"), [(2, 1 / 3), (2, 0.5), (1, 0.5), (99, 0.01), (19, 0.05)])
def test_claims_that_n_models_carry_pass(models: int, rate: float) -> None:
    check_claims(models=models, alpha=0.05, level=0.95, claim_fmr=rate)


def test_a_claim_is_kept_and_counts_the_fewest_models_of_a_trigger() -> None:
    scores = pack_of({"a": 0.5, "b": 0.53, "c": 0.47})
    kept = calibrate(scores, claim_fmr=0.25)
    assert kept.claimed_fmr == 0.25
    assert "claimed of tau: a false-match rate of 0.25 per trigger" in kept.statement
    assert calibrate(scores).claimed_fmr is None
    scores["c"]["t05"] = make(0, 0)
    with pytest.raises(CalibrationError, match="2 null models: no false-match rate below 1/3"):
        calibrate(scores, claim_fmr=0.25)


def test_weights_of_null_models_are_kept_and_told_apart() -> None:
    scores = pack_of({"a": 0.5, "b": 0.53})
    kept = calibrate(scores, null_weights={"a": "aa" * 32, "b": "bb" * 32})
    assert kept.null_weights == {"a": "aa" * 32, "b": "bb" * 32}
    assert Calibration.model_validate_json(kept.model_dump_json()) == kept
    with pytest.raises(CalibrationError, match="same weights"):
        calibrate(scores, null_weights={"a": "aa" * 32, "b": "aa" * 32})
    with pytest.raises(ValueError, match="no null model"):
        calibrate(scores, null_weights={"z": "aa" * 32})


def test_a_calibration_written_before_reads_as_before() -> None:
    """``pack.json`` of the first packs has none of the later fields."""
    old = calibrate(pack_of({"a": 0.5, "b": 0.53})).model_dump(mode="json")
    for name in ("null_weights", "dispersion", "dispersion_degrees", "held_out", "claimed_fmr"):
        del old[name]
    for row in old["rows"]:
        del row["sigma_pooled"]
    read = Calibration.model_validate(old)
    assert (read.null_weights, read.held_out, read.dispersion, read.claimed_fmr) == ({}, (), None, None)
    row, score = read.rows[0], make(25, 30)
    assert row.sigma_pooled is None
    assert row.pooled_z(score) == row.calibrated_z(score)
