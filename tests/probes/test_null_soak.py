"""The null soak scaled down (``python -m benchmarks.probes.null_soak`` is the full one), and its parts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.probes import null_soak
from benchmarks.probes.simulated import Behaviour, Watched
from sif_offline.fingerprint.response import ResponseScore
from sif_offline.fingerprint.scoring import combine
from sif_offline.fingerprint.sequential import EProcess

ALPHA = 0.01
TARGETS = 40


@pytest.fixture(scope="module")
def groups() -> list[null_soak.Group]:
    return null_soak.soak(targets=TARGETS, rounds=10, seed=1)


def test_innocents_are_confirmed_no_more_often_than_alpha(groups: list[null_soak.Group]) -> None:
    """Six rows of innocents; an assertion fails by chance once in 1,000 at most were the level just alpha."""
    innocents = [group for group in groups if group.kind.startswith("innocent")]
    assert len(innocents) == 6
    most = null_soak.allowed(TARGETS, alpha=ALPHA)
    assert most <= 4, "else the bound would allow what it is to catch"
    for group in innocents:
        assert group.confirmed * TARGETS <= most, group
    for group in innocents[:3]:  # green at gamma: the other null is true as well
        assert group.independent_reached * TARGETS <= most, group


def test_the_z_test_accuses_innocents_who_go_on_talking(groups: list[null_soak.Group]) -> None:
    """With one look each the z test keeps its level (chance of failure 1e-3 a row), with more it does not.

    Ten looks find some 5 % of those over the threshold who bring new types: none of 160 by chance 3e-4.
    """
    innocents = [group for group in groups if group.kind.startswith("innocent")]
    most = null_soak.allowed(TARGETS, alpha=ALPHA)
    for group in innocents:
        assert group.z_first_round * TARGETS <= most, group
        assert group.z_by_round >= group.z_first_round
        if group.behaviour == "greedy":
            assert group.z_by_round == group.z_first_round, "nothing new came after the first round"
    talking = [group.z_by_round * TARGETS for group in innocents if group.behaviour != "greedy"]
    assert sum(talking) >= 1


def test_pirates_are_confirmed_within_the_first_rounds(groups: list[null_soak.Group]) -> None:
    for group in groups[6:]:
        assert group.kind == "pirate"
        *_, ninety = group.answers_to_confirmation
        assert ninety is not None
        assert ninety <= 32, group


@pytest.mark.parametrize("behaviour", ["greedy", "sampled", "rotating"])
@pytest.mark.parametrize("rate", [None, 0.576])
def test_simulated_targets_are_green_at_their_rate(behaviour: Behaviour, rate: float | None) -> None:
    """Five standard errors each way: fails by chance in one of a million runs of a seed."""
    colours, types, asked = 0, 0, 0
    for seed in range(8):
        seen: dict[str, set[int]] = {}
        for trigger, new in Watched(behaviour, rate, rounds=20).answers(np.random.default_rng(seed)):
            asked += 1
            known = seen.setdefault(trigger, set())
            assert not known & {word for word, _ in new}, "a type came as new twice"
            known |= {word for word, _ in new}
            types, colours = types + len(new), colours + sum(green for _, green in new)
    assert asked == 8 * 20 * 16
    expected = 0.5 if rate is None else rate
    assert abs(colours / types - expected) < 5 * math.sqrt(expected * (1 - expected) / types)


def test_an_answer_has_as_many_types_as_the_lab_owners() -> None:
    """32.1 types (docs/forging.md) within .7; six standard errors of a mean of 640 are .5."""
    counts = [
        len(new)
        for seed in range(40)
        for _, new in Watched("greedy", None, rounds=1).answers(np.random.default_rng(seed))
    ]
    assert np.mean(counts) == pytest.approx(32.1, abs=0.7)


def test_the_verdict_comes_with_the_answer_at_which_e_crosses(tmp_path: Path) -> None:
    """Found by halving over replays; an e-process fed one answer at a time says the same."""
    pack = null_soak.make_pack(tmp_path, vocab_size=4096)
    policy = null_soak.make_policy(pack, alpha=ALPHA, transfer=null_soak.DEMO_TRANSFER)
    for seed in range(5):
        answers = list(Watched("rotating", 0.68, rounds=10).answers(np.random.default_rng(seed)))
        process = EProcess(vocab_size=4096, green_size=2048, transfer=null_soak.DEMO_TRANSFER)
        crossed = None
        for count, (trigger, new) in enumerate(answers, start=1):
            process.update(trigger, new)
            if crossed is None and process.max_log_e >= -math.log(ALPHA):
                crossed = count
        assert crossed is not None
        assert null_soak.answers_to_confirmation(answers, pack=pack, policy=policy) == crossed


@pytest.mark.parametrize("transfer", [None, null_soak.DEMO_TRANSFER])
def test_the_z_test_is_stouffers(tmp_path: Path, transfer: float | None) -> None:
    pack = null_soak.make_pack(tmp_path, vocab_size=4096)
    rate = None if transfer is None else 0.5 + transfer
    answers = list(Watched("sampled", rate, rounds=3).answers(np.random.default_rng(0)))
    counts: dict[str, list[int]] = {}
    for trigger, new in answers:
        pair = counts.setdefault(trigger, [0, 0])
        pair[0] += len(new)
        pair[1] += sum(green for _, green in new)
    scores = [
        ResponseScore.from_counts(greens=g, types=u, vocab_size=4096, green_size=2048, trigger_id=trigger)
        for trigger, (u, g) in counts.items()
    ]
    so_far = null_soak.stouffer_so_far(answers, pack=pack, rate=rate)
    assert so_far[-1] == pytest.approx(combine(scores, transfer=transfer).stouffer_z, abs=1e-9)


def test_the_command_prints_and_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "soak.json"
    arguments = ["--targets", "2", "--rounds", "2", "--triggers", "2", "--jobs", "1", "--json", str(target)]
    monkeypatch.setattr("sys.argv", ["null_soak", *arguments])
    null_soak.main()
    found = json.loads(target.read_text("utf-8"))
    assert found["settings"]["targets"] == 2
    assert [group["targets"] for group in found["groups"]] == [2] * 9
    assert "2 innocents a row, 4 answers each" in capsys.readouterr().out
