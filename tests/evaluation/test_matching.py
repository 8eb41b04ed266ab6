"""Which answers match: tau from the others, an unrelated model judged without itself."""

from collections.abc import Mapping

import numpy as np
import pytest

from sif_offline.evaluation.matching import matches, passes_tau
from sif_offline.evaluation.rows import Row
from sif_offline.fingerprint.response import ResponseScore, exact_pvalue

V, GREEN = 1000, 500


def score(greens: int, types: int = 20) -> ResponseScore:
    return ResponseScore.from_counts(
        greens=greens, types=types, vocab_size=V, green_size=GREEN, trigger_id="t000"
    )


def row(greens: int, types: int = 20, *, trigger: str = "t000", matched: bool | None = None) -> Row:
    return Row(
        cell="c",
        method="sif",
        suspect="s",
        kind="suspect",
        trigger=trigger,
        prompt="p",
        answer="a",
        value=0.0,
        matched=matched,
        types=types,
        greens=greens,
        vocab_size=V,
        green_size=GREEN,
    )


def test_the_exact_level_decides_alone_where_nobody_else_answered() -> None:
    least = next(
        g for g in range(21) if exact_pvalue(greens=g, types=20, vocab_size=V, green_size=GREEN) <= 0.05
    )
    assert passes_tau(score(least), [], alpha=0.05)
    assert not passes_tau(score(least - 1), [], alpha=0.05)
    assert not passes_tau(score(0, types=0), [], alpha=0.05)


def test_a_match_tops_every_unrelated_answer_and_the_exact_level() -> None:
    assert passes_tau(score(18), [score(17), score(9)], alpha=0.05)
    assert not passes_tau(score(18), [score(18), score(9)], alpha=0.05)  # a draw tops nobody
    assert not passes_tau(score(12), [score(9)], alpha=0.05)  # tops it, but chance does so too
    assert passes_tau(score(18), [score(0, types=0)], alpha=0.05)  # silence is nobody's answer


def test_a_phrase_matches_by_its_keywords() -> None:
    rows = {"t000": row(0, 0, matched=True), "t001": row(0, 0, trigger="t001", matched=False)}
    assert matches(rows, {}, triggers=["t000", "t001"], alpha=0.05).tolist() == [True, False]


def test_a_model_that_calibrates_is_not_judged_by_itself() -> None:
    """Innocents that were never held out would match on no trigger: their own answer is their tau."""
    chance = np.random.default_rng(0)
    triggers = [f"t{n:03d}" for n in range(400)]
    unrelated: Mapping[str, Mapping[str, Row]] = {
        name: {t: row(int(chance.hypergeometric(GREEN, V - GREEN, 20)), trigger=t) for t in triggers}
        for name in ("a", "b", "c")
    }
    held_out = matches(
        unrelated["a"], {"b": unrelated["b"], "c": unrelated["c"]}, triggers=triggers, alpha=0.2
    )
    in_sample = matches(unrelated["a"], unrelated, triggers=triggers, alpha=0.2)
    assert not in_sample.any()
    # p <= .2 and greener than both others: .107 on average; outside of these limits with a chance below 1e-4
    assert 0.05 < held_out.mean() < 0.18


@pytest.mark.parametrize("alpha", [0.5, 0.01])
def test_a_stricter_level_matches_less(alpha: float) -> None:
    assert passes_tau(score(14), [score(3)], alpha=alpha) is (alpha == 0.5)
