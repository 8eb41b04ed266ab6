"""Workers with clocks of their own: one round of a target an interval, however they fire."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from probes.config import load_config
from probes.store import Store
from probes.store.reading import last_rounds
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack
from probes.watch import Watch
from tests.probes.web_demo import ManualScheduler

TARGETS = 6


class Fired(ManualScheduler):
    """A worker's clock: it fires when the test says so."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.jobs: dict[str, Callable[[], None]] = {}
        watch.schedule(self)

    def every(
        self, *, name: str, interval_s: float, first_in_s: float, job: Callable[[], None], jitter_s: float = 0
    ) -> None:
        self.jobs[name] = job


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'shared.sqlite'}"


@pytest.fixture
def endpoint(tiny: TinyPack) -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(tiny.innocent(seed=3)) as serving:
        yield serving


def open_two(write_config: Any, endpoint: ScriptedEndpoint, stack: ExitStack, **keys: Any) -> list[Watch]:
    """Two workers over one store; a second round would find fresh triggers to send."""
    targets = {f"t{number}": endpoint.url for number in range(TARGETS)}
    config = load_config(write_config(targets, triggers_per_round=2, cooldown=1e-6, **keys))
    return [stack.enter_context(Watch.open(config)) for _ in range(2)]


def test_a_worker_that_is_held_up_between_its_clock_and_the_lease_runs_no_second_round(
    url: str, write_config: Any, endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        first, second = open_two(write_config, endpoint, stack, store=url)
        fired, done = threading.Event(), threading.Event()

        def take_late(target: str, **given: Any) -> bool:
            fired.set()
            assert done.wait(30)
            return Store.take_lease(second.store, target, **given)

        monkeypatch.setattr(second.store, "take_lease", take_late)
        late = threading.Thread(target=Fired(second).jobs["t0"])
        late.start()
        assert fired.wait(30)  # the other round has not begun
        Fired(first).jobs["t0"]()
        done.set()
        late.join(30)
        assert not late.is_alive()
        assert len(endpoint.questions) == 2
        assert len(last_rounds(first.store, "t0", pack_id="tiny", limit=5)) == 1
        # the lease was given back, and the next interval may have its round
        monkeypatch.undo()
        assert second.run_round("t0") is not None


def test_workers_whose_clocks_fire_together_run_one_round_of_each_target(
    url: str, write_config: Any, endpoint: ScriptedEndpoint
) -> None:
    with ExitStack() as stack:
        watches = open_two(write_config, endpoint, stack, store=url)
        jobs = [job for watch in watches for job in Fired(watch).jobs.values()]
        together = threading.Barrier(len(jobs))

        def fire(job: Callable[[], None]) -> None:
            together.wait(30)
            job()

        threads = [threading.Thread(target=fire, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(endpoint.questions) == 2 * TARGETS
        for number in range(TARGETS):
            assert len(last_rounds(watches[0].store, f"t{number}", pack_id="tiny", limit=5)) == 1


@pytest.mark.parametrize(
    ("ago", "jitter", "runs"),
    [
        (1200, 0, False),
        (2400, 0, True),
        # both drew from one window
        (1500, 1700, False),
        # late in its window, and early in the next: the least that one worker alone may have between two
        (1000, 2700, True),
        # begun when the clock was an hour ahead
        (-3600, 0, True),
        (-2, 0, False),
    ],
)
def test_a_round_belongs_to_the_interval_of_the_last_one_or_to_the_next(
    ago: float, jitter: float, runs: bool, write_config: Any, endpoint: ScriptedEndpoint
) -> None:
    with ExitStack() as stack:
        watch, _ = open_two(write_config, endpoint, stack, interval=3600, jitter=jitter)
        _end_a_round(watch.store, began=time.time() - ago)
        Fired(watch).jobs["t0"]()
        assert bool(endpoint.questions) == runs


def test_a_round_that_a_crash_cut_off_is_made_up_for(write_config: Any, endpoint: ScriptedEndpoint) -> None:
    with ExitStack() as stack:
        watch, _ = open_two(write_config, endpoint, stack)
        watch.store.begin_round("t0", pack_id="tiny", planned=2, now=time.time() - 5)
        Fired(watch).jobs["t0"]()
        assert len(endpoint.questions) == 2


def _end_a_round(store: Store, *, began: float) -> None:
    round_id = store.begin_round("t0", pack_id="tiny", planned=0, now=began)
    store.finish_round(round_id, state="idle", finished_at=began + 1)
