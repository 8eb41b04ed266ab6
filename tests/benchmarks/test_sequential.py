"""The simulations behind docs/statistics.md: the vectorised form against the real one, Ville over 2,000 looks
with real green lists, answers to confirmation, the excess of the closed form.
"""

import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.sequential import answers_to_confirmation, closed_form_excess, looks
from benchmarks.sequential.answers_to_confirmation import OWNER_SHARE, answers_needed, shares_for
from benchmarks.sequential.closed_form_excess import brute_force, excess, excess_of_keys
from benchmarks.sequential.replicas import Replicas
from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.sequential import EProcess

settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")

V, N_G = 4096, 2048
ALPHAS = (0.5, 0.2, 0.1, 0.05, 0.01)
TRIGGERS, LOOKS = 24, 2000


@given(
    stream=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), max_size=40),
    transfer=st.sampled_from([None, 0.0, 0.05, 0.2]),
)
def test_replicas_are_e_processes(stream: list[tuple[int, int]], transfer: float | None) -> None:
    """Three replicas with colours of their own, in a vocabulary so small that the urn moves the bets."""
    arguments = {"vocab_size": 200, "green_size": 100, "transfer": transfer, "grid_points": 7}
    together = Replicas(3, **arguments)
    alone = [EProcess(**arguments) for _ in range(3)]
    for place, (trigger, bits) in enumerate(stream):
        colours = np.array([bits >> i & 1 for i in range(3)], dtype=bool)
        together.step(trigger, colours)
        for process, colour in zip(alone, colours.tolist(), strict=True):
            process.update(str(trigger), [(place, colour)])
    assert together.log_e == pytest.approx([process.log_e for process in alone], abs=1e-12)
    assert together.max_log_e == pytest.approx([process.max_log_e for process in alone], abs=1e-12)


def new_types(generator: np.random.Generator) -> list[tuple[int, int]]:
    """(trigger, id) as they are first seen over 2,000 answers of 30 tokens to 24 triggers, Zipf's English."""
    words = 1 / np.arange(1, 601)
    stream: dict[tuple[int, int], None] = {}
    for look in range(LOOKS):
        for word in generator.choice(600, size=30, p=words / words.sum()).tolist():
            stream.setdefault((look % TRIGGERS, word))
    return list(stream)


def test_false_alarms_over_two_thousand_looks_with_real_green_lists() -> None:
    """Independent text: one text, 300 innocent sets of keys. P(ever E >= 1/alpha) <= alpha for five alphas.

    False-alarm rate 1e-6. A pooled z looked at as often alarms more than five times as often as it should.
    """
    stream = new_types(np.random.default_rng(1))
    masks = np.array(
        [[green_mask(key=TRIGGERS * r + t, vocab_size=V)[:600] for t in range(TRIGGERS)] for r in range(300)]
    )
    process, greens, ever = Replicas(300, vocab_size=V, green_size=N_G), np.zeros(300), np.zeros(300, bool)
    for seen, (trigger, word) in enumerate(stream, start=1):
        process.step(trigger, masks[:, trigger, word])
        greens += masks[:, trigger, word]
        ever |= (greens - seen / 2) / math.sqrt(seen / 4) > 2
    for alpha in ALPHAS:
        alarms = int((process.max_log_e >= -math.log(alpha)).sum())
        assert stats.binom.sf(alarms - 1, 300, alpha) > 2e-7, alpha
    assert (process.max_log_e >= math.log(2)).any(), "a process that never rises would prove nothing"
    assert ever.mean() > 5 * stats.norm.sf(2)


def test_false_alarms_at_the_boundary_of_unrelated_models() -> None:
    """Unrelated model at gamma0 = .53, the worst it may do, over as many types: 400 of them, five alphas.

    Each new type is green at the very bound. False-alarm rate 1e-6. The process of "independent text" accuses
    nearly all of these innocents.
    """
    generator = np.random.default_rng(2)
    process = Replicas(400, vocab_size=V, green_size=N_G, transfer=0.03)
    wrong = Replicas(400, vocab_size=V, green_size=N_G)
    for trigger, _ in new_types(np.random.default_rng(1)):
        colours = generator.uniform(size=400) < process.rates(trigger)
        process.step(trigger, colours)
        wrong.step(trigger, colours)
    for alpha in ALPHAS:
        alarms = int((process.max_log_e >= -math.log(alpha)).sum())
        assert stats.binom.sf(alarms - 1, 400, alpha) > 2e-7, alpha
    assert (process.max_log_e >= math.log(2)).any()
    assert (wrong.max_log_e >= math.log(100)).mean() > 0.9


def test_answers_to_confirmation_at_the_owners_share() -> None:
    """The lab owner's measured share: a handful of answers without transfer, about nine with m = .03."""
    assert abs(OWNER_SHARE - 0.6915) < 1e-4
    found = {
        m: answers_needed(OWNER_SHARE, transfer=m, replicas=200, max_answers=40) for m in (None, 0.03, 0.076)
    }
    assert 2 <= found[None][0] <= 4
    assert 6 <= found[None][1] <= 8
    assert 8 <= found[0.03][1] <= 11
    assert 14 <= found[0.076][1] <= 21


def test_answers_fall_with_the_share_and_rise_with_the_transfer() -> None:
    medians = [answers_needed(share, replicas=200, max_answers=60)[1] for share in (0.6, 0.65, 0.75)]
    assert medians == sorted(medians, reverse=True)
    assert medians[0] == pytest.approx(24, abs=5)
    assert medians[2] == pytest.approx(4, abs=1)
    assert answers_needed(0.5, replicas=50, max_answers=5) == [math.inf, math.inf]


def test_shares_of_the_yardstick() -> None:
    """9 answers to E >= 1e6 against gamma0 = .53 are a green share of .69, the lab owner's."""
    low, high = shares_for(9, transfer=0.03, replicas=200)
    assert low < high
    assert low == pytest.approx(0.69, abs=0.015)
    assert high == pytest.approx(0.70, abs=0.015)


@pytest.mark.parametrize(("vocab_size", "green_size"), [(6, 3), (9, 4), (10, 2), (12, 6)])
def test_excess_by_induction_is_that_of_every_path(vocab_size: int, green_size: int) -> None:
    found = excess(vocab_size, green_size)
    assert found == pytest.approx(brute_force(vocab_size, green_size), rel=1e-9)
    assert found == pytest.approx(excess_of_keys(vocab_size, green_size, keys=1), rel=1e-9)
    assert found > 0.01, "in a small vocabulary the closed form is plainly no e-value"


def test_excess_of_the_closed_form() -> None:
    """As log_evalue_beta quotes it: small at V = 4,096, growing with the types seen, adding up over keys."""
    assert excess(256, 128) == pytest.approx(8.59e-3, rel=0.01)
    assert excess(V, N_G, types=32) == pytest.approx(1.45e-4, rel=0.01)
    assert excess(V, N_G, types=200) == pytest.approx(3.0e-4, rel=0.02)
    one, two = (excess_of_keys(V, N_G, keys=keys, types=8) for keys in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.02)


def test_the_cost_of_looks_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "--looks", "20", "--types", "8", "--json"])
    looks.main()
    row = json.loads(capsys.readouterr().out)
    assert row.keys() == {"at_once", "one_by_one", "ratio", "log_e"}
    assert row["ratio"] == pytest.approx(row["one_by_one"] / row["at_once"])


@pytest.mark.parametrize(
    ("module", "arguments", "columns"),
    [
        (closed_form_excess, ["--vocab-size", "16", "--types", "4", "16"], {"vocab_size", "types", "excess"}),
        (closed_form_excess, ["--vocab-size", "6", "--keys", "2"], {"keys", "excess"}),
        (
            answers_to_confirmation,
            [
                "--share",
                "0.9",
                "0.55",
                "--transfer",
                "none",
                "0.03",
                "--replicas",
                "20",
                "--max-answers",
                "4",
            ],
            {"share", "transfer", "answers_to_1e6"},
        ),
        (
            answers_to_confirmation,
            ["--answers", "3", "--transfer", "none", "--replicas", "20"],
            {"answers", "share_from", "share_to"},
        ),
    ],
)
def test_commands(
    module: object,
    arguments: list[str],
    columns: set[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    module.main()
    table = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(sys, "argv", ["command", *arguments, "--json"])
    module.main()
    rows = json.loads(capsys.readouterr().out)
    assert len(table) == 1 + len(rows)
    assert all(columns <= set(row) for row in rows)
