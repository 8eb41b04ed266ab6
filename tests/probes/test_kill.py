"""kill -9 at random and at chosen points of a round: no answer is lost, no trigger is sent twice.

``python -m benchmarks.probes.kill`` does it fifty times, through litellm.
"""

from pathlib import Path

import pytest

from benchmarks.probes import kill, kill_at
from probes.store import Store

RANDOM_KILLS = 2
KILLS = len(kill_at.POINTS) + 1 + RANDOM_KILLS
"""Every chosen point once, and two at random; the benchmark's fifty are half at random."""


@pytest.mark.timeout(600)
def test_killed_rounds_lose_nothing_and_send_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = kill.run(tmp_path, kills=KILLS, random_kills=RANDOM_KILLS, seed=20261122, plain=True)
    kill.print_outcome(outcome)
    assert outcome.broken == [], capsys.readouterr().out
    assert len(outcome.kills) == KILLS
    by_point = {found.point: found for found in outcome.kills}
    assert set(by_point) == {*kill_at.POINTS, kill.WAITING, kill.RANDOM}
    # the points are where their names say
    for point in ("intent committed, not sent", kill.WAITING, "answer received, not stored"):
        assert (by_point[point].intents_left_open, by_point[point].rounds_left_running) == (1, 1), point
    assert by_point["answer stored, next not begun"].intents_left_open == 0
    assert by_point["answer stored, next not begun"].answers_without_score >= 1
    assert by_point["before a score"].answers_without_score >= 1
    assert by_point["before the round's summary"].rounds_left_running >= 1
    assert by_point["before the lease is given back"].rounds_left_running == 0
    assert outcome.questions_received == outcome.answers_stored + outcome.in_doubt_received


def test_every_point_is_a_method_of_the_store() -> None:
    for method, _ in kill_at.POINTS.values():
        assert callable(getattr(Store, method))
