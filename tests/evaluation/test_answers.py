"""Answers to confirmation: the wealth is the e-process's own, and innocents do not confirm."""

import numpy as np
import pytest
from scipy.stats import beta

from sif_offline.evaluation.answers import (
    MOST_ANSWERS,
    answers_to_confirmation,
    green_wealth,
    phrase_null_rate,
    phrase_wealth,
)
from sif_offline.fingerprint.sequential import EProcess
from sif_offline.forging.power import Counts

V, GREEN = 4096, 2048


@pytest.mark.parametrize("transfer", [0.0, 0.05])
def test_the_wealth_of_answers_is_the_e_process(transfer: float) -> None:
    counts = [Counts(30, 22), Counts(33, 20), Counts(5, 5)]
    process = EProcess(vocab_size=V, green_size=GREEN, transfer=transfer)
    wealth = green_wealth(counts, vocab_size=V, green_size=GREEN, transfer=transfer, seed=3)
    chance = np.random.default_rng(3)
    for number, (types, greens) in enumerate(counts):
        process.update(str(number), enumerate((chance.permutation(types) < greens).tolist()))
        total = wealth[: number + 1].sum(axis=0)
        assert np.log(np.exp(total).mean()) == pytest.approx(process.log_e)


def test_a_strong_suspect_takes_the_answers_that_the_e_process_takes() -> None:
    """Every trigger alike: no chance is left, and the count is that of one watch."""
    found = answers_to_confirmation(
        green_wealth([Counts(32, 25)] * 6, vocab_size=V, green_size=GREEN, transfer=0.03)
    )
    process, count = EProcess(vocab_size=V, green_size=GREEN, transfer=0.03), 0
    while process.log_e < -np.log(1e-6):
        process.update(str(count), enumerate([True] * 25 + [False] * 7))
        count += 1
    assert found.median == found.low == found.high == count
    assert found.power[count - 2] == 0.0
    assert found.power[count - 1] == 1.0


def test_innocents_do_not_confirm() -> None:
    """At the null's own rate at most alpha of the watches confirm. At alpha .05 more than 40 of 400 have a
    chance below 1e-4.
    """
    chance = np.random.default_rng(0)
    counts = [Counts(30, int(chance.binomial(30, 0.55))) for _ in range(2000)]
    wealth = green_wealth(counts, vocab_size=V, green_size=GREEN, transfer=0.05)
    assert answers_to_confirmation(wealth, alpha=0.05).power[-1] <= 0.1
    never = answers_to_confirmation(wealth)
    assert never.median is None
    assert never.low is never.high is None
    assert len(never.power) == MOST_ANSWERS


def test_a_phrase_is_one_coin_an_answer() -> None:
    null = 0.1
    wealth = phrase_wealth([True, False], null_rate=null)
    bets = null + 0.9 * (np.arange(64) + 0.5) / 64
    assert wealth[0] == pytest.approx(np.log(bets / null))
    assert wealth[1] == pytest.approx(np.log((1 - bets) / (1 - null)))
    # a fair game at the null: the mean factor of every bet is 1
    assert null * np.exp(wealth[0]) + (1 - null) * np.exp(wealth[1]) == pytest.approx(np.ones(64))
    always = answers_to_confirmation(phrase_wealth([True] * 4, null_rate=null))
    needed = next(n for n in range(1, 100) if np.log(np.exp(n * wealth[0]).mean()) >= -np.log(1e-6))
    assert always.median == needed


def test_the_phrase_rate_of_innocents_is_bounded_by_triggers() -> None:
    silent = np.zeros((3, 20), dtype=bool)
    assert phrase_null_rate(silent) == pytest.approx(1 - 0.05 ** (1 / 20))
    one = silent.copy()
    one[:, 4] = True  # all three models say it: one trigger still
    assert phrase_null_rate(one) == pytest.approx(beta.ppf(0.95, 2, 19))
