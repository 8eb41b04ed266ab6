"""The schedulers keep one contract: an interval, a window, never beside itself, a stop that ends."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from probes.scheduling import APSchedulerScheduler, Rhythm, Scheduler, SchedulerError, make_scheduler
from tests.probes.schedules import FAST, Log

MakeScheduler = Callable[..., Scheduler]


@pytest.fixture(params=["apscheduler", "dbos on sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path, quick_dbos: None) -> Iterator[MakeScheduler]:
    """Make a scheduler of each kind; it is stopped in the end, whatever happened."""
    yield from _makers(request.param, f"sqlite:///{tmp_path / 'scheduler.sqlite'}")


@pytest.fixture(params=["apscheduler", "dbos on sqlite", "dbos on postgresql"])
def make_on_all(request: pytest.FixtureRequest, tmp_path: Path, quick_dbos: None) -> Iterator[MakeScheduler]:
    """As ``make``, and on PostgreSQL."""
    url = f"sqlite:///{tmp_path / 'scheduler.sqlite'}"
    if request.param == "dbos on postgresql":
        url = request.getfixturevalue("postgres_url")
    yield from _makers(request.param, url)


def _makers(kind: str, url: str) -> Iterator[MakeScheduler]:
    from probes.scheduling.dbos_scheduler import DbosScheduler

    made: list[Scheduler] = []

    def make(**options: Any) -> Scheduler:
        if kind == "apscheduler":
            made.append(APSchedulerScheduler(look_s=FAST["look_s"], **options))
        else:
            made.append(DbosScheduler(url, **FAST, **options))
        return made[-1]

    yield make
    for scheduler in made:
        scheduler.stop(grace_s=0)


def test_a_job_runs_at_its_interval_never_beside_itself_and_misses_are_not_made_up_for(
    make: MakeScheduler,
) -> None:
    scheduler, job = make(), Log(takes_s=1.0)
    scheduler.every(name="a", interval_s=0.4, first_in_s=0.0, job=job)
    scheduler.start()
    job.wait(1)
    job.takes_s = 0.0
    job.wait(4)
    due = scheduler.next_run("a")
    assert due is not None
    assert due <= time.time() + 0.4
    assert scheduler.next_run("b") is None
    job.takes_s = 0.5
    job.wait(len(job.began) + 1)
    assert scheduler.stop(grace_s=10)
    assert job.running == 0, "the stop did not wait for what ran"
    ended = len(job.began)
    assert job.most == 1
    # two due times pass while the first run works; neither is made up for at once
    assert job.began[1] - job.began[0] >= 1.0
    # a busy machine may start a run late, but three intervals cannot be shorter than two
    assert job.began[3] - job.began[1] >= 0.4, job.began
    time.sleep(0.6)
    assert len(job.began) == ended, "a job ran after the stop"


def test_jobs_are_added_removed_retimed_and_woken_while_it_runs_and_may_fail(
    make_on_all: MakeScheduler,
) -> None:
    scheduler = make_on_all()
    failing, slow, added, replaced = Log(), Log(), Log(), Log()

    def fails() -> None:
        failing()
        raise RuntimeError("a bug in a job")

    scheduler.every(name="fails", interval_s=0.3, first_in_s=0.0, job=fails)
    scheduler.every(name="slow", interval_s=3600.0, first_in_s=3600.0, job=slow)
    scheduler.start()
    failing.wait(2)
    scheduler.every(name="added", interval_s=0.3, first_in_s=0.0, job=added)
    added.wait(2)
    scheduler.remove("added")
    scheduler.remove("never was there")
    time.sleep(1.0)  # what was under way
    counted = len(added.began)
    scheduler.wake("slow")
    scheduler.wake("never was there")
    slow.wait(1)
    due = scheduler.next_run("slow")
    assert due is not None
    assert due - time.time() > 3000, "one run out of turn is one run"
    scheduler.every(name="slow", interval_s=0.3, first_in_s=0.1, job=replaced)
    replaced.wait(2)
    assert scheduler.next_run("added") is None
    assert scheduler.stop(grace_s=10)
    assert len(added.began) == counted, "a removed job ran"
    assert len(slow.began) == 1, "a replaced job ran"


def test_a_stop_waits_no_longer_than_its_grace(make: MakeScheduler) -> None:
    scheduler, began, release = make(), threading.Event(), threading.Event()

    def job() -> None:
        began.set()
        release.wait(30)

    scheduler.every(name="a", interval_s=60, first_in_s=0.0, job=job)
    scheduler.start()
    assert began.wait(10)
    at = time.monotonic()
    assert not scheduler.stop(grace_s=0.3)
    assert time.monotonic() - at < 5
    release.set()


def test_no_more_than_its_parallel_jobs_at_once(make: MakeScheduler) -> None:
    scheduler, job = make(parallel=2), Log(takes_s=0.5)
    for number in range(5):
        scheduler.every(name=str(number), interval_s=60, first_in_s=0.0, job=job)
    scheduler.start()
    job.wait(5)
    assert scheduler.stop(grace_s=5)
    assert job.most == 2


class WrongClock:
    """The clock on the wall, of everything in this process, and how far it is off, seconds.

    A machine that slept sees a jump: neither its threads nor its monotonic clock know of the time in between.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.off_s, self._right, clock = 0.0, time.time, self
        monkeypatch.setattr(time, "time", self)

        class Wrong(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> "Wrong":
                return cls.fromtimestamp(clock(), tz)

        for module in ("schedulers", "executors"):  # APScheduler asks for a datetime
            monkeypatch.setattr(f"apscheduler.{module}.base.datetime", Wrong)

    def __call__(self) -> float:
        return self._right() + self.off_s


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WrongClock:
    return WrongClock(monkeypatch)


def test_after_hours_of_sleep_each_job_runs_once_and_the_rhythm_goes_on(
    make_on_all: MakeScheduler, wall: WrongClock
) -> None:
    """Five runs of each were missed; one is due."""
    scheduler, jobs = make_on_all(clock=wall), [Log() for _ in range(3)]
    for number, job in enumerate(jobs):
        scheduler.every(name=str(number), interval_s=3600, first_in_s=1800, jitter_s=600, job=job)
    scheduler.start()
    time.sleep(1.0)
    assert not any(job.began for job in jobs)
    wall.off_s = 5.4 * 3600  # in no job's window
    for job in jobs:
        job.wait(1)
    time.sleep(2.0)
    assert [len(job.began) for job in jobs] == [1, 1, 1], "missed runs were made up for"
    for number in range(len(jobs)):
        due = scheduler.next_run(str(number))
        assert due is not None
        # the windows begin at half past, as before
        assert 5.5 * 3600 - 120 < due - (time.time() - wall.off_s) < 5.5 * 3600 + 600
    assert scheduler.stop(grace_s=5)


def test_a_clock_that_goes_back_delays_a_job_by_no_more_than_its_interval(
    make_on_all: MakeScheduler, wall: WrongClock
) -> None:
    """The clock is hours ahead when the next run is planned; then it is set right."""
    wall.off_s = 5 * 3600
    scheduler, job = make_on_all(clock=wall), Log()
    scheduler.every(name="a", interval_s=1.0, first_in_s=0.0, job=job)
    scheduler.start()
    job.wait(2)
    due = scheduler.next_run("a")
    assert due is not None
    wall.off_s = 0.0
    assert due - time.time() > 4 * 3600
    at, before = time.time(), len(job.began)
    job.wait(before + 2)
    due = scheduler.next_run("a")
    assert due is not None
    assert due <= time.time() + 1.0
    assert scheduler.stop(grace_s=5)
    first, second = (began - at for began in job.began[before : before + 2])
    assert second - first > 0.5, "a jump is no reason to hurry"


def test_each_run_is_drawn_inside_its_window_and_the_rhythm_does_not_drift() -> None:
    rhythm = Rhythm(interval_s=100.0, jitter_s=30.0)
    due, delays = rhythm.first(1000.0), []
    for number in range(400):
        assert due.nominal == 1000.0 + 100 * number
        delays.append(due.at - due.nominal)
        due = rhythm.after(due.nominal, now=due.at + random.Random(number).uniform(0, 60))
    assert min(delays) >= 0
    assert max(delays) <= 30
    # the draws are not seeded; a mean of 400 lies outside 5 sd (0.43 s each) once in 1.7 million runs
    assert abs(sum(delays) / 400 - 15) < 2.2
    assert len(set(delays)) == 400


def test_windows_that_are_over_are_passed_by_and_one_that_is_open_is_used() -> None:
    rhythm = Rhythm(interval_s=100.0, jitter_s=50.0)
    assert rhythm.after(0.0, now=1234.0).nominal == 1200.0
    assert 1234.0 <= rhythm.after(0.0, now=1234.0).at <= 1250.0
    assert rhythm.after(0.0, now=1260.0).nominal == 1300.0
    assert rhythm.after(5000.0, now=100.0).nominal == 200.0, "the clock went back"
    assert rhythm.too_far(300.0, now=100.0)
    assert not rhythm.too_far(250.0, now=100.0)
    for interval, jitter in ((0.0, 0.0), (10.0, 11.0), (10.0, -1.0), (math.inf, 0.0), (math.nan, 0.0)):
        with pytest.raises(ValueError, match="must"):
            Rhythm(interval, jitter)


def test_both_schedulers_draw_the_delay_and_tell_it(make: MakeScheduler) -> None:
    scheduler = make()
    at = time.time()
    for number in range(20):
        scheduler.every(name=str(number), interval_s=600, first_in_s=100, jitter_s=500, job=Log())
    delays = [(scheduler.next_run(str(number)) or 0) - at - 100 for number in range(20)]
    assert min(delays) > -1
    assert max(delays) < 501
    # twenty uniform delays that all lie in one half of the window: twice in a million runs
    assert min(delays) < 250 < max(delays)
    with pytest.raises(ValueError, match="jitter_s"):
        scheduler.every(name="x", interval_s=10, first_in_s=0, jitter_s=11, job=Log())


def test_the_store_decides_which_scheduler(tmp_path: Path) -> None:
    from probes.scheduling.dbos_scheduler import DbosScheduler

    sqlite, postgresql = f"sqlite:///{tmp_path / 's.sqlite'}", "postgresql+psycopg://me:secret@host/db"
    assert isinstance(make_scheduler("auto", sqlite, 2), APSchedulerScheduler)
    assert isinstance(make_scheduler("apscheduler", postgresql, 2), APSchedulerScheduler)
    assert isinstance(make_scheduler("auto", postgresql, 2), DbosScheduler)
    assert isinstance(make_scheduler("dbos", sqlite, 2), DbosScheduler)
    with pytest.raises(SchedulerError, match="not in memory"):
        make_scheduler("dbos", "sqlite://", 2)
    with pytest.raises(SchedulerError, match="not mysql"):
        make_scheduler("dbos", "mysql+pymysql://me:secret@host/db", 2)
    with pytest.raises(SchedulerError) as caught:
        make_scheduler("auto", "secret", 2)
    assert "secret" not in str(caught.value)
