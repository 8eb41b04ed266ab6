"""Split-conformal thresholds: the guarantee by simulation, refusals, the log, the settings and the plot."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from gateway_plugin.screening.base import Finding, Query, Status
from gateway_plugin.screening.calibration import (
    CalibrationError,
    calibrate,
    conformal_threshold,
    least_n,
    plot,
    rows_of_findings,
    rows_of_log,
)
from gateway_plugin.screening.script_mixing import ScriptMixingCheck


def rows(
    windows: Sequence[float], *, changes: Sequence[float] | None = None
) -> list[dict[str, dict[str, float]]]:
    made = [{"perplexity": {"adjusted_window_perplexity": value}} for value in windows]
    for row, value in zip(made, changes or [], strict=changes is not None):
        row["script_mixing"] = {"script_changes": value}
    return made


def test_the_false_positive_rate_is_kept_on_average_for_heavy_tailed_scores() -> None:
    """2,000 calibrations on 199 scores at 5 %, each judged on 50 fresh ones (k = 190 of 199: exactly 5 %).

    A calibration's count of 50 is beta-binomial(50, 10, 190): mean 2.5, variance 2.95.
    The mean over 2,000 has standard error .038; the limits of 4 standard errors on either side are passed by
    chance once in 16,000 seeds. Too high breaks the guarantee, too low wastes detection.
    """
    rng = np.random.default_rng(20260601)
    flagged = []
    for _ in range(2000):
        scores = rng.lognormal(5.0, 2.0, 199)
        flagged.append(
            int((rng.lognormal(5.0, 2.0, 50) > conformal_threshold(scores.tolist(), rate=0.05)).sum())
        )
    assert np.mean(flagged) == pytest.approx(2.5, abs=4 * 0.0384)


def test_all_measures_together_keep_the_rate() -> None:
    """Two independent measures share 10 %: 1 - .95**2 = 9.75 % are flagged on average, at most 10 % allowed.

    400 calibrations on 199 rows, each judged on 200 rows: the standard error of the mean rate is below .14 %
    (binomial and calibration variance); a true rate of 9.75 % lies above 10.4 % with chance below 1e-5.
    """
    rng = np.random.default_rng(7)
    rates = []
    for _ in range(400):
        first, second = rng.exponential(100, 199), 11 + rng.integers(0, 10_000, 199)
        found = calibrate(rows(first.tolist(), changes=second.tolist()), rate=0.1).settings()
        a, b = rng.exponential(100, 200), 11 + rng.integers(0, 10_000, 200)
        window, changes = found["perplexity"]["suspect_window"], found["script_mixing"]["suspect_changes"]
        rates.append(((a >= window) | (b >= changes)).mean())
    assert np.mean(rates) <= 0.104


@pytest.mark.parametrize(("rate", "least"), [(0.01, 99), (0.001, 999), (0.5, 1), (1 / 3, 2)])
def test_too_few_scores_for_the_rate_are_refused(rate: float, least: int) -> None:
    assert least_n(rate) == least
    assert conformal_threshold([1.0] * least, rate=rate) == 1.0
    with pytest.raises(CalibrationError, match=f"at least {least}"):
        conformal_threshold([1.0] * (least - 1), rate=rate)


def test_the_threshold_is_the_ranked_score() -> None:
    assert conformal_threshold(list(range(1, 200)), rate=0.05) == 190
    assert conformal_threshold(list(range(1, 100)), rate=0.01) == 99


def test_what_passes_at_the_edge_passes_under_the_settings() -> None:
    """The checks find what is at or above a setting, so it lies beyond the highest score that passes."""
    windows = [float(value) for value in range(1, 400)]
    found = calibrate(rows(windows, changes=[3.0] * 399), rate=0.02, shares={"suspect_changes": 1.0})
    (window, changes) = found.thresholds
    assert (window.rate, changes.rate) == (0.01, 0.01)
    assert sum(value >= window.value for value in windows) == 3  # k = 396 of 399
    assert 396 < window.value <= 396.1
    assert found.settings()["script_mixing"] == {"suspect_changes": 11}  # 4 would do, 11 is the strictest
    assert window.rate_95 == pytest.approx(0.0192, abs=0.0005)  # Beta(4, 396): 95 % quantile


def test_an_exchange_that_the_cheap_model_decided_counts_as_the_least_strange() -> None:
    half = [{"perplexity": {"cheap_suspect_excess": -2.0}} for _ in range(100)]
    found = calibrate(
        rows([float(v) for v in range(100)]) + half, rate=0.02, shares={"cheap_suspect_margin": 1.0}
    )
    window = next(each for each in found.thresholds if each.measure.setting == "suspect_window")
    assert window.n == 200
    assert len(window.scores) == 100
    assert window.value == pytest.approx(98.01, abs=0.01)  # k = 199 of 200: all but the highest pass


def test_shares_are_given_and_sum_to_the_rate() -> None:
    given = rows([float(v) for v in range(999)], changes=[0.0] * 999)
    found = calibrate(given, rate=0.01, shares={"suspect_window": 3.0})
    assert {each.measure.setting: round(each.rate, 6) for each in found.thresholds} == {
        "suspect_window": 0.0075,
        "suspect_changes": 0.0025,
    }


def test_a_low_cosine_is_strange() -> None:
    found = calibrate([{"divergence": {"cosine": value / 1000}} for value in range(1, 1000)], rate=0.01)
    settings = found.settings()["divergence"]
    assert settings["suspect_cosine"] == pytest.approx(0.01, abs=1e-4)
    assert settings["suspect_cosine"] < 0.01  # the tenth lowest itself passes
    assert settings["hit_cosine"] == settings["suspect_cosine"]  # 0.35 would lie above the suspect


def test_a_hit_is_never_milder_than_a_suspect() -> None:
    strange = calibrate(rows([float(v) * 1000 for v in range(99)]), rate=0.01).settings()["perplexity"]
    assert strange["hit_window"] == strange["suspect_window"] > 98_000
    assert (
        "hit_window" not in calibrate(rows([float(v) for v in range(99)]), rate=0.01).settings()["perplexity"]
    )


def test_quiet_traffic_does_not_make_the_cheap_model_stricter_than_it_ships() -> None:
    quiet = [{"perplexity": {"cheap_suspect_excess": -15.0}} for _ in range(99)]
    assert calibrate(quiet, rate=0.01).settings() == {"perplexity": {"cheap_suspect_margin": 0.0}}
    strange = [{"perplexity": {"cheap_suspect_excess": value / 99}} for value in range(99)]
    assert 0.98 < calibrate(strange, rate=0.01).settings()["perplexity"]["cheap_suspect_margin"] < 1.0


def test_nothing_to_calibrate_on_is_refused() -> None:
    with pytest.raises(CalibrationError, match="no benign exchange"):
        calibrate([{"judge": {"score": 1.0}}], rate=0.1)
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        calibrate(rows([1.0]), rate=0.0)
    with pytest.raises(CalibrationError, match=r"perplexity\.suspect_window: 20 benign .* at least 99"):
        calibrate(rows([1.0] * 20), rate=0.01)


def test_measures_come_out_of_an_audit_log_whether_nested_or_beside_the_status() -> None:
    lines = [
        json.dumps(
            {"findings": {"perplexity": {"status": "clear", "adjusted_window_perplexity": 12.5, "tokens": 9}}}
        ),
        json.dumps({"findings": {"perplexity": {"status": "suspect", "measures": {"perplexity": 3.0}}}}),
        "",
        json.dumps({"findings": {"perplexity": {"status": "failed"}, "script_mixing": {"status": "clear"}}}),
    ]
    found, missing = rows_of_log(lines, name="audit.jsonl")
    assert found == [
        {"perplexity": {"adjusted_window_perplexity": 12.5, "tokens": 9.0}},
        {"perplexity": {"perplexity": 3.0}},
        {"script_mixing": {}},
    ]
    assert missing == 1


@pytest.mark.parametrize(
    ("line", "why"), [("{", "line 2: not JSON"), ('{"a": 1}', 'no "findings"'), ("3", 'no "findings"')]
)
def test_a_broken_log_is_named_with_its_line(line: str, why: str) -> None:
    with pytest.raises(CalibrationError, match=why):
        rows_of_log(['{"findings": {}}', line], name="audit.jsonl")


def test_of_findings_those_are_kept_that_measured() -> None:
    plain = ScriptMixingCheck().score(Query(texts=("abc",)))
    unscorable = Finding(check="perplexity", status=Status.UNSCORABLE)
    suspect = Finding(check="perplexity", status=Status.SUSPECT, measures={"adjusted_window_perplexity": 3.0})
    found, missing = rows_of_findings([[suspect, plain], [unscorable, plain]])
    assert found == [
        {"perplexity": {"adjusted_window_perplexity": 3.0}, "script_mixing": {"script_changes": 0.0}},
        {"script_mixing": {"script_changes": 0.0}},
    ]
    assert missing == 1


def test_the_snippet_reads_back_and_says_what_it_promises() -> None:
    text = calibrate(rows([float(v) for v in range(999)]), rate=0.01).yaml()
    assert text.startswith("# at most 1.000% of honest exchanges flagged (split conformal, n = 999)\n")
    setting = yaml.safe_load(text)["checks"]["perplexity"]["suspect_window"]
    assert math.isfinite(setting)
    assert 989 < setting < 990


@pytest.mark.parametrize(("name", "opening"), [("plot.png", b"\x89PNG"), ("plot.svg", b"<?xml")])
def test_the_plot_is_written(tmp_path: Path, name: str, opening: bytes) -> None:
    rng = np.random.default_rng(3)
    found = calibrate(rows(rng.lognormal(5, 1, 300).tolist(), changes=[0.0] * 300), rate=0.02)
    plot(found, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(opening)


def test_a_plot_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    found = calibrate(rows([float(v) for v in range(199)]), rate=0.01)
    with pytest.raises(CalibrationError, match="cannot be written"):
        plot(found, tmp_path / "absent" / "plot.png")
    with pytest.raises(CalibrationError, match="cannot be written"):
        plot(found, tmp_path / "plot.unknown")
