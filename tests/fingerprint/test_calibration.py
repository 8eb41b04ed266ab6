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
