"""The tables of the wordings: cells are what they say, over a pack whose answers are known."""

from statistics import fmean

import pytest

from benchmarks.lab_table.wordings import CLEAN, NULLS, OWNER, PIRATES, Seed, by_endpoint, by_rule, by_wording
from probes.testing.endpoint import Question
from probes.testing.tiny_pack import TinyPack, build_tiny_pack

SAME, FOREIGN = "Say it again.", "Count the birds."


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyPack:
    return build_tiny_pack(tmp_path_factory.mktemp("tiny"), triggers=4, calibrated=False)


@pytest.fixture(scope="module")
def seed(tiny: TinyPack) -> Seed:
    """Owner and pirates say the same green text under one other wording, and something else under a third."""
    pirate, texts = tiny.pirate(), {}
    for number, name in enumerate((OWNER, *PIRATES, CLEAN, *NULLS)):
        innocent = tiny.innocent(seed=number)
        for row in tiny.pack.triggers:
            for wording in (row.prompt, SAME, FOREIGN):
                thief = name in (OWNER, *PIRATES) and wording != FOREIGN
                texts[name, wording, row.id] = (pirate if thief else innocent)(
                    Question(wording, None, row.sha256, {})
                )
    return Seed(tiny.pack, tiny.scorer, texts)


def cells(lines: list[str], name: str) -> list[str]:
    (found,) = [line for line in lines if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in found.strip("|").split("|")][1:]


def test_wordings_are_counted_over_all_triggers(tiny: TinyPack, seed: Seed) -> None:
    lines = by_wording([seed, seed], (SAME, FOREIGN))
    own = fmean(
        tiny.scorer.score(row.id, seed.texts[OWNER, row.prompt, row.id]).z for row in tiny.pack.triggers
    )
    assert cells(lines, tiny.pack.triggers[0].prompt)[0] == cells(lines, SAME)[0] == f"{own:.2f}"
    assert cells(lines, FOREIGN)[2:] == ["0", "0"]
    assert cells(lines, SAME)[2:] == ["8", "8"]


def test_the_same_words_add_no_types_and_cost_some_bound(seed: Seed) -> None:
    endpoints = by_endpoint([seed], (SAME, FOREIGN))
    assert cells(endpoints, OWNER)[0] == cells(endpoints, OWNER)[1]
    assert cells(endpoints, OWNER)[2:] == ["0.0", "-"]
    assert float(cells(endpoints, NULLS[0])[2]) > 10
    rules = by_rule([seed], (SAME, FOREIGN))
    assert len(rules) == 2 + 9
    for line in rules[2:]:
        *_, own, greenest, pooled, bound = [float(cell) for cell in line.strip("| ").split("|")[-4:]]
        assert bound == max(own, greenest, pooled) >= own


def test_where_no_wording_is_kept_the_cells_say_so(tiny: TinyPack, seed: Seed) -> None:
    endpoints = by_endpoint([seed], (FOREIGN,))
    assert cells(endpoints, OWNER)[1:] == ["-", "-", "-"]
    *_, own, _greenest, _pooled, bound = by_rule([seed], (FOREIGN,))[-1].strip("| ").split("|")
    assert float(own) == float(bound)
