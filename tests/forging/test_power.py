"""Power of a watch against scripted suspects, and the goal that forges until it is reached."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from sif_offline.fingerprint.sequential import EProcess
from sif_offline.forging.goal import GoalError, PowerGoal, PowerTarget
from sif_offline.forging.pixels import Photo
from sif_offline.forging.plan import Job
from sif_offline.forging.power import Counts, estimate_power
from sif_offline.forging.workdir import Finished
from sif_offline.models.lab import LabAdapter
from sif_offline.suspects.base import SuspectError

V, GREENS = 4096, 2048


def power(counts: Sequence[Counts], **options: Any) -> float:
    given = {"suspect": "scripted", "vocab_size": V, "green_size": GREENS, "alpha": 1e-6, **options}
    return estimate_power(counts, **given).power


def test_power_is_what_simulated_watches_reach() -> None:
    """Against watches simulated here from the share itself, within four standard errors of the difference."""
    types, share, answers, replicas = 30, 0.75, 9, 400
    chance = np.random.default_rng(1)
    reached = 0
    for _ in range(replicas):
        process = EProcess(vocab_size=V, green_size=GREENS, transfer=0.05)
        for answer in range(answers):
            process.update(str(answer), enumerate((chance.random(types) < share).tolist()))
        reached += process.max_log_e >= -np.log(1e-6)
    assert 0.2 < reached / replicas < 0.95, "a test of something"
    counts = [Counts(types, int(chance.binomial(types, share))) for _ in range(600)]
    found = power(counts, transfer=0.05, max_answers=answers, replicas=replicas)
    assert abs(found - reached / replicas) < 4 * 0.5 * (2 / replicas) ** 0.5


def test_power_rises_with_what_raises_it() -> None:
    strong, weak = [Counts(30, 25)] * 8, [Counts(30, 18)] * 8
    assert power(strong) > 0.95
    assert power(weak) < 0.05
    assert power(strong, max_answers=2) < power(strong, max_answers=5) <= power(strong, max_answers=8)
    assert power(strong, max_answers=99) == power(strong), "a greedy endpoint repeats itself"
    assert power(strong, transfer=0.2, max_answers=5) < power(strong, max_answers=5)
    assert power([Counts(30, 22)] * 8) == power([Counts(30, 22)] * 8), "seeded"
    median = estimate_power(strong, suspect="s", vocab_size=V, green_size=GREENS, alpha=1e-6).median_answers
    assert median is not None
    assert 2 <= median <= 6
    assert (
        estimate_power(weak, suspect="s", vocab_size=V, green_size=GREENS, alpha=1e-6).median_answers is None
    )


def test_innocents_are_not_convicted() -> None:
    """Watches over answers without a watermark confirm with probability at most alpha; here alpha is .05, the
    replicas 400, and the bound is passed by three standard errors with probability below .01."""
    chance = np.random.default_rng(0)
    counts = [Counts(30, int(chance.binomial(30, 0.5))) for _ in range(400)]
    share = sum(row.greens for row in counts) / sum(row.types for row in counts)
    assert abs(share - 0.5) < 0.01
    assert power(counts, alpha=0.05, max_answers=20) <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


class Scripted:
    """A suspect that answers every trigger with the same ids."""

    def __init__(self, ids: Sequence[int], adapter: LabAdapter) -> None:
        self.ids, self.adapter, self.asked = list(ids), adapter, 0

    def generate(self, images: Sequence[Image.Image], prompt: str) -> list[list[int]]:
        self.asked += len(images)
        return [self.ids for _ in images]

    def text(self, ids: Sequence[int]) -> str:
        return self.adapter.text(ids)


def rows_of(photo: Photo, mask: Any, count: int) -> list[tuple[Job, Finished]]:
    return [
        (
            Job(f"t{place:03d}", photo, "Describe.", "", mask, place),
            Finished(f"t{place:03d}", photo.png, "", 0.5, {}, {}),
        )
        for place in range(count)
    ]


def test_a_goal_asks_each_trigger_once_and_sees_the_weakest_suspect(
    adapter: LabAdapter, photos: list[Photo]
) -> None:
    thief = Scripted(range(100, 140), adapter)
    innocent = Scripted(range(60, 100), adapter)
    encode = Tokenizer.from_str(adapter.tokenizer_json().decode()).encode
    said, other = (
        sorted(set(encode(adapter.text(who.ids), add_special_tokens=False).ids)) for who in (thief, innocent)
    )
    mask = np.zeros(adapter.vocab_size, dtype=bool)
    mask[::2] = True
    mask[said] = True
    mask[other] = False
    mask[other[::2]] = True
    target = PowerTarget(power=0.9, suspects=("thief", "innocent"), alpha=1e-3, max_answers=12)
    alone = PowerGoal(PowerTarget(power=0.9, suspects=("thief",), alpha=1e-3), adapter, {"thief": thief})
    rows = rows_of(photos[0], mask, 12)
    assert not alone.enough(rows[:3]), "too few to tell"
    assert alone.estimates == ()
    assert [alone.enough(rows[:count]) for count in (4, 8, 12)] == [True] * 3
    assert thief.asked == 12
    assert alone.reached
    both = PowerGoal(target, adapter, {"thief": thief, "innocent": innocent})
    assert both.enough(rows), "no further trigger could help"
    assert not both.reached
    report = both.report()
    assert (report["reached"], len(report["estimates"])) == (False, 4)
    assert {row["null"] for row in report["estimates"]} == {"independent text", "unrelated model"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"power": 1.0}, "--until-power"),
        ({"alpha": 0.0}, "--alpha"),
        ({"suspects": ()}, "--suspect"),
        ({"transfer": 0.5}, "--transfer"),
    ],
)
def test_targets_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(GoalError, match=said):
        PowerTarget(**{"power": 0.9, "suspects": ("4bit",), **options})


def test_suspects_that_cannot_be_made(adapter: LabAdapter) -> None:
    with pytest.raises(SuspectError, match="melted"):
        PowerGoal.of(PowerTarget(power=0.9, suspects=("melted",)), adapter)
