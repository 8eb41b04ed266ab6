"""E-processes: mean 1 by enumeration, Ville by simulation, restarts to the last bit."""

import itertools
import json
import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sif_offline.fingerprint.sequential import EProcess, anytime_pvalue, log_evalue_beta, verdict_state


def e_after(process_arguments: dict, colours: tuple[bool, ...]) -> float:
    process = EProcess(**process_arguments)
    process.update("t", list(enumerate(colours)))
    return math.exp(process.log_e)


@pytest.mark.parametrize(("vocab_size", "green_size"), [(8, 4), (9, 3), (7, 6)])
def test_mean_is_one_at_every_stop_by_enumeration(vocab_size: int, green_size: int) -> None:
    """Under every colouring of the vocabulary, exactly: a martingale, so mean 1 under every stopping rule."""
    arguments = {"vocab_size": vocab_size, "green_size": green_size, "grid_points": 5}
    colourings = [
        tuple(i in chosen for i in range(vocab_size))
        for chosen in itertools.combinations(range(vocab_size), green_size)
    ]
    for stop in range(vocab_size + 1):
        mean = math.fsum(e_after(arguments, c[:stop]) for c in colourings) / len(colourings)
        assert mean == pytest.approx(1.0, rel=1e-12)


def test_mean_is_one_under_the_greediest_stop() -> None:
    """Backward induction over every path: even the best stopper, who sees all colours, gains nothing."""
    vocab_size, green_size = 9, 4
    arguments = {"vocab_size": vocab_size, "green_size": green_size, "grid_points": 7}

    def value(path: tuple[bool, ...]) -> float:
        stopped, left = e_after(arguments, path), vocab_size - len(path)
        if not left:
            return stopped
        rate = (green_size - sum(path)) / left
        steps = ((rate, True), (1 - rate, False))
        return max(stopped, math.fsum(p * value((*path, colour)) for p, colour in steps if p > 0))

    assert value(()) == pytest.approx(1.0, rel=1e-12)


def rational_step(gamma0: Fraction, rate: Fraction, wealth: tuple, green: bool, *, raised: bool) -> tuple:
    """The wealths after one more colour, by the definition and in rational numbers."""
    moved = []
    for place, value in enumerate(wealth):
        bet = gamma0 + (1 - gamma0) * Fraction(2 * place + 1, 2 * len(wealth))
        if raised:
            bet = max(bet, rate)
        moved.append(value * (bet / rate if green else (1 - bet) / (1 - rate)))
    return tuple(moved)


@pytest.mark.parametrize(("vocab_size", "green_size", "keys"), [(5, 2, 2), (6, 3, 2), (4, 2, 3)])
def test_mean_is_one_over_several_keys_whoever_stops_and_orders(
    vocab_size: int, green_size: int, keys: int
) -> None:
    """Rational numbers, every state: whoever stops, and even chooses the key to look at next, gains nothing.

    E depends on the counts alone as long as both colours are left in the urn (afterwards it stands still), so
    a state is (greens, reds) by key; each is compared with EProcess.
    """
    gamma, points = Fraction(green_size, vocab_size), 3
    compared = 0

    def order(greens: int, reds: int) -> tuple[bool, ...]:
        """Some order of the colours in which the urn runs out of one with the last type only."""
        return tuple(sorted((True,) * greens + (False,) * reds, reverse=greens < green_size))

    @cache
    def wealth(state: tuple[tuple[int, int], ...]) -> tuple:
        values = (Fraction(1),) * points
        for greens, reds in state:
            colours = order(greens, reds)
            for seen in range(len(colours)):
                rate = Fraction(green_size - sum(colours[:seen]), vocab_size - seen)
                values = rational_step(gamma, rate, values, colours[seen], raised=False)
        return values

    @cache
    def value(state: tuple[tuple[int, int], ...]) -> Fraction:
        nonlocal compared
        stopped = sum(wealth(state)) / points
        process = EProcess(vocab_size=vocab_size, green_size=green_size, grid_points=points)
        for key, (greens, reds) in enumerate(state):
            process.update(f"t{key}", list(enumerate(order(greens, reds))))
        assert math.exp(process.log_e) == pytest.approx(float(stopped), rel=1e-12)
        compared += 1
        best = stopped
        for key, (greens, reds) in enumerate(state):
            if greens < green_size and reds < vocab_size - green_size:
                rate = Fraction(green_size - greens, vocab_size - greens - reds)
                onward = Fraction(0)
                for probability, drawn in ((rate, (greens + 1, reds)), (1 - rate, (greens, reds + 1))):
                    onward += probability * value((*state[:key], drawn, *state[key + 1 :]))
                best = max(best, onward)
        return best

    assert value(((0, 0),) * keys) == 1
    assert compared == ((green_size + 1) * (vocab_size - green_size + 1) - 1) ** keys


@pytest.mark.parametrize(("vocab_size", "keys", "depth"), [(5, 2, 5), (8, 1, 8)])
def test_unrelated_model_process_bounds_the_worst_model_stopper_and_order(
    vocab_size: int, keys: int, depth: int
) -> None:
    """Rational numbers, every path: the model picks any rate up to the bound at each type, having seen all.

    The mean is linear in the rate, so that its ends 0 and the bound are enough.
    """
    green_size, points, gamma0 = vocab_size // 2, 3, Fraction(vocab_size // 2, vocab_size) + Fraction(1, 10)
    compared = 0

    def value(path: tuple[tuple[int, bool], ...], wealth: tuple) -> Fraction:
        nonlocal compared
        stopped = sum(wealth) / points
        process = EProcess(vocab_size=vocab_size, green_size=green_size, transfer=0.1, grid_points=points)
        for place, (key, green) in enumerate(path):
            process.update(f"t{key}", [(place, green)])
        assert math.exp(process.log_e) == pytest.approx(float(stopped), rel=1e-12)
        compared += 1
        best = stopped
        for key in range(keys if len(path) < depth else 0):
            colours = [green for other, green in path if other == key]
            if len(colours) == vocab_size:
                continue
            rate = max(gamma0, Fraction(green_size - sum(colours), vocab_size - len(colours)))
            if not 0 < rate < 1:
                continue
            after = {
                green: value((*path, (key, green)), rational_step(gamma0, rate, wealth, green, raised=True))
                for green in (True, False)
            }
            best = max(best, after[False], rate * after[True] + (1 - rate) * after[False])
        return best

    assert value((), (Fraction(1),) * points) == 1
    assert compared > 200


@given(
    greens=st.integers(0, 20),
    reds=st.integers(0, 20),
    transfer=st.floats(0, 0.2),
    fraction=st.floats(0, 1),
)
def test_unrelated_model_process_never_gains_below_gamma0(
    greens: int, reds: int, transfer: float, fraction: float
) -> None:
    """One step on from any past, at any rate up to gamma0 or the urn's own: the mean E does not rise.

    V is small, so that the urn's rate passes gamma0 and the lowest bets.
    """
    arguments = {"vocab_size": 50, "green_size": 25, "transfer": transfer, "grid_points": 9}
    past = (True,) * greens + (False,) * reds
    rate = fraction * max(0.5 + transfer, (25 - greens) / (50 - greens - reds))
    following = rate * e_after(arguments, (*past, True)) + (1 - rate) * e_after(arguments, (*past, False))
    assert following <= e_after(arguments, past) * (1 + 1e-12)


def test_closed_form_is_near_the_exact_process() -> None:
    """At V = 4,096 and 20 answers of 30 types: within .25 of each other, both far from 0."""
    process, generator = EProcess(vocab_size=4096, green_size=2048), np.random.default_rng(3)
    for trigger in range(20):
        process.update(f"t{trigger}", list(enumerate((generator.uniform(size=30) < 0.66).tolist())))
    approximate = log_evalue_beta(
        successes=process.greens, failures=process.types - process.greens, gamma=0.5
    )
    assert process.log_e == pytest.approx(approximate, abs=0.25)
    assert process.log_e > 10


def test_false_alarms_over_a_long_watch() -> None:
    """Ville: 400 innocents watched type by type over 25 triggers; alerts at E >= 10 are at most Binomial(400,
    .1).

    False-alarm rate of this test: 1e-6.
    """
    generator, alarms = np.random.default_rng(7), 0
    for _ in range(400):
        process = EProcess(vocab_size=64, green_size=32, grid_points=8)
        for trigger in range(25):
            mask = generator.permutation(64) < 32
            process.update(f"t{trigger}", [(i, bool(mask[i])) for i in range(12)])
        alarms += process.max_log_e >= math.log(10)
    assert stats.binom.sf(alarms - 1, 400, 0.1) > 1e-6


def test_an_owner_is_confirmed_under_the_unrelated_model_null() -> None:
    """Green at .75 against gamma0 = .54: after 20 answers of 30 types E is beyond 1e6."""
    generator = np.random.default_rng(2)
    process = EProcess(vocab_size=4096, green_size=2048, transfer=0.04)
    for trigger in range(20):
        process.update(f"t{trigger}", list(enumerate((generator.uniform(size=30) < 0.75).tolist())))
    assert verdict_state(process.max_log_e) == "confirmed"


@given(data=st.data(), colours=st.lists(st.booleans(), min_size=1, max_size=25))
def test_order_within_an_answer_moves_only_the_maximum(data: st.DataObject, colours: list[bool]) -> None:
    types = list(enumerate(colours))
    one, other = EProcess(vocab_size=200, green_size=100), EProcess(vocab_size=200, green_size=100)
    one.update("a", types)
    other.update("a", data.draw(st.permutations(types)))
    assert one.log_e == pytest.approx(other.log_e, abs=1e-12)


def test_only_new_types_of_a_trigger_count() -> None:
    process = EProcess(vocab_size=100, green_size=50)
    assert process.update("a", [(1, True), (2, False), (1, True), (3, None)]) == 2
    before = process.log_e
    assert process.update("a", [(2, False), (1, True)]) == 0
    assert process.log_e == before
    assert process.update("b", [(1, True)]) == 1, "another key, another colour: a new pair"
    assert (process.types, process.greens) == (3, 2)


def test_the_maximum_is_taken_between_types() -> None:
    process = EProcess(vocab_size=4096, green_size=2048)
    process.update("a", [(i, i < 30) for i in range(60)])
    assert process.max_log_e > process.log_e
    peak = EProcess(vocab_size=4096, green_size=2048)
    peak.update("a", [(i, True) for i in range(30)])
    assert process.max_log_e == peak.log_e


@given(
    answers=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=12), min_size=1, max_size=4),
    transfer=st.sampled_from([None, 0.0, 0.1]),
)
def test_an_answer_at_once_is_its_types_one_by_one(answers: list, transfer: float | None) -> None:
    whole, single = (EProcess(vocab_size=60, green_size=30, transfer=transfer) for _ in range(2))
    for place, ids in enumerate(answers):
        types = [(i, i * 7 % 3 > 0) for i in ids]
        new = whole.update(f"t{place % 2}", types)
        assert new == sum(single.update(f"t{place % 2}", [pair]) for pair in types)
    assert single.log_e == pytest.approx(whole.log_e, abs=1e-12)
    assert single.max_log_e == pytest.approx(whole.max_log_e, abs=1e-12)
    assert single.state()["seen"] == whole.state()["seen"]


def test_more_types_than_the_vocabulary_are_refused_and_change_nothing() -> None:
    process = EProcess(vocab_size=4, green_size=2)
    process.update("a", [(0, True)])
    before = process.state()
    with pytest.raises(ValueError, match="5 types of one trigger, V is 4"):
        process.update("a", [(i, False) for i in range(1, 5)])
    assert process.state() == before


def test_exhausted_vocabulary_is_no_evidence() -> None:
    process = EProcess(vocab_size=4, green_size=2)
    process.update("a", [(0, True), (1, True)])
    before = process.log_e
    process.update("a", [(2, False), (3, False)])
    assert process.log_e == before


@settings(max_examples=30)
@given(
    answers=st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 30), max_size=8)), min_size=1, max_size=6
    ),
    cut=st.integers(0, 6),
    transfer=st.sampled_from([None, 0.0, 0.05]),
)
def test_a_restart_changes_no_bit(answers: list, cut: int, transfer: float | None) -> None:
    def feed(process: EProcess, some: list) -> None:
        for trigger, ids in some:
            process.update(trigger, [(i, (i * 7 + ord(trigger)) % 2 == 0) for i in ids])

    whole = EProcess(vocab_size=50, green_size=25, transfer=transfer)
    feed(whole, answers)
    first = EProcess(vocab_size=50, green_size=25, transfer=transfer)
    feed(first, answers[:cut])
    second = EProcess.from_state(json.loads(json.dumps(first.state())))
    feed(second, answers[cut:])
    assert second.state() == whole.state()
    assert second.log_e == whole.log_e


@pytest.mark.parametrize("state", [{}, {"schema_version": 2}, {"schema_version": 1, "vocab_size": 4}])
def test_a_foreign_state_is_refused(state: dict) -> None:
    with pytest.raises(ValueError, match="e-process"):
        EProcess.from_state(state)


def test_anytime_p_and_verdict() -> None:
    assert anytime_pvalue(-5.0) == 1.0
    assert anytime_pvalue(math.log(1e6)) == pytest.approx(1e-6)
    assert anytime_pvalue(5000.0) == 0.0
    assert [verdict_state(math.log(e)) for e in (1, 99, 101, 9.9e5, 1.1e6)] == [
        "none",
        "none",
        "suspicious",
        "suspicious",
        "confirmed",
    ]
    assert verdict_state(math.log(2e3), alpha=1e-3) == "confirmed"
