"""The schedulers keep one contract: an interval, a window, never beside itself, a stop that ends."""

import math
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from probes.scheduling import APSchedulerScheduler, Rhythm, Scheduler, SchedulerError, make_scheduler

MakeScheduler = Callable[..., Scheduler]
FAST = {"poll_s": 0.1, "look_s": 0.3}


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


@pytest.fixture
def quick_dbos(monkeypatch: pytest.MonkeyPatch) -> None:
    """DBOS wakes what is due once a second; a test has less time."""
    monkeypatch.setattr("dbos._workflow_commands._BACKGROUND_JOBS_INTERVAL_SEC", 0.1)


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


class Log:
    """A job that writes down when it began, and takes as long as it is told."""

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.began: list[float] = []
        self.running = self.most = 0
        self._lock = threading.Condition()

    def __call__(self) -> None:
        with self._lock:
            self.began.append(time.time())
            self.running += 1
            self.most = max(self.most, self.running)
            self._lock.notify_all()
        time.sleep(self.takes_s)
        with self._lock:
            self.running -= 1
            self._lock.notify_all()

    def wait(self, times: int, *, timeout: float = 15.0) -> None:
        """Until the job has begun so often."""
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.began) >= times, timeout), (
                f"{len(self.began)} runs of {times} in {timeout} s"
            )


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


# -- DBOS alone


def test_where_something_else_uses_dbos_it_is_left_alone() -> None:
    """Its workflows would be launched on our tables, and be gone when our scheduler stops."""
    from dbos import DBOS

    from probes.scheduling.dbos_scheduler import DbosScheduler

    url = "postgresql+psycopg://me@host/db"

    @DBOS.workflow(name="of_the_host")
    def of_the_host() -> None:
        """Not launched yet."""

    try:
        assert isinstance(make_scheduler("auto", url, 2), APSchedulerScheduler)
        with pytest.raises(SchedulerError, match="another DBOS runs in this process"):
            make_scheduler("dbos", url, 2).start()
        assert isinstance(make_scheduler("auto", url, 2), APSchedulerScheduler), "the host's list is gone"
    finally:
        DBOS.destroy(destroy_registry=True)
    assert isinstance(make_scheduler("auto", url, 2), DbosScheduler)


def test_a_restart_keeps_the_drawn_time_and_a_lost_tick_is_placed_anew(
    tmp_path: Path, quick_dbos: None
) -> None:
    from probes.scheduling.dbos_scheduler import DbosScheduler

    file = tmp_path / "scheduler.sqlite"

    def start() -> tuple[DbosScheduler, Log]:
        scheduler, job = DbosScheduler(f"sqlite:///{file}", **FAST), Log()
        scheduler.every(name="a", interval_s=600, first_in_s=300, jitter_s=200, job=job)
        scheduler.start()
        return scheduler, job

    scheduler, _ = start()
    try:
        drawn = _until(lambda: _waiting(file))
        assert scheduler.next_run("a") == pytest.approx(drawn, abs=0.01)
    finally:
        scheduler.stop(grace_s=1)
    scheduler, job = start()
    try:
        _until(lambda: scheduler.next_run("a") == pytest.approx(drawn, abs=0.01))
        # somebody empties the scheduler's tables; the job's time comes
        with sqlite3.connect(file) as connection:
            connection.execute("delete from workflow_status")
        connection.close()
        assert _waiting(file) is None
        scheduler.every(name="a", interval_s=1.0, first_in_s=0.0, job=job)
        job.wait(2)
        with sqlite3.connect(file) as connection:
            connection.execute("delete from workflow_status")
        connection.close()
        job.wait(len(job.began) + 2)
    finally:
        scheduler.stop(grace_s=1)


def test_a_tick_that_another_replicas_clock_put_too_far_comes_within_an_interval_and_not_at_once(
    tmp_path: Path, quick_dbos: None
) -> None:
    """That replica ran what was due, and placed the next tick by a clock that is ahead."""
    from probes.scheduling.dbos_scheduler import DbosScheduler

    file, job = tmp_path / "scheduler.sqlite", Log()
    scheduler = DbosScheduler(f"sqlite:///{file}", **FAST)
    scheduler.every(name="a", interval_s=6.0, first_in_s=1.5, job=job)
    scheduler.start()
    try:
        _until(lambda: _waiting(file))
        with sqlite3.connect(file) as connection:
            far = (time.time() + 60) * 1000
            assert connection.execute("update workflow_status set delay_until_epoch_ms = ?", (far,)).rowcount
        connection.close()
        moved = _until(lambda: (due := _waiting(file)) is not None and due < far / 1000 and due)
        assert 2.0 < moved - time.time() <= 6.0
        assert not job.began
    finally:
        scheduler.stop(grace_s=1)


def test_a_tick_that_no_replica_knows_is_dropped_and_its_job_may_come_back(
    tmp_path: Path, quick_dbos: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The configuration was changed while nothing ran: a target is gone, and later there again."""
    from probes.scheduling.dbos_scheduler import DbosScheduler

    monkeypatch.setattr("probes.scheduling.dbos_scheduler.PASS_ON_S", 0.1)
    monkeypatch.setattr("probes.scheduling.dbos_scheduler.PASSES", 2)

    def start(name: str, job: Log) -> DbosScheduler:
        scheduler = DbosScheduler(f"sqlite:///{tmp_path / 'scheduler.sqlite'}", **FAST)
        scheduler.every(name=name, interval_s=0.3, first_in_s=0.0, job=job)
        scheduler.start()
        return scheduler

    for name, says in (("a", ""), ("b", "target a: no replica has it"), ("a", "target b: no replica has it")):
        job = Log()
        scheduler = start(name, job)
        try:
            job.wait(1)
            _until(lambda says=says: says in caplog.text)
        finally:
            scheduler.stop(grace_s=5)


def test_a_replica_that_freezes_stops_no_other_and_makes_up_for_nothing_when_it_wakes(
    postgres_url: str,
) -> None:
    """Its machine sleeps, perhaps while it holds DBOS' lock on what is due, which runs out after 5 s."""
    with ExitStack() as stack:
        replicas = []
        for _ in range(2):
            replica = subprocess.Popen(
                [sys.executable, "-c", REPLICA, postgres_url], stdout=subprocess.PIPE, text=True
            )
            stack.callback(replica.wait)
            stack.callback(replica.kill)
            replicas.append(stack.enter_context(_Lines(replica)))
        _until(lambda: all(replica.lines for replica in replicas), timeout=60)
        frozen, other = replicas
        frozen.process.send_signal(signal.SIGSTOP)
        before = len(other.lines)
        _until(lambda: len(other.lines) >= before + 3, timeout=30)
        time.sleep(3)  # five and more of its own runs missed
        at, before = time.time(), len(frozen.lines) + len(other.lines)
        frozen.process.send_signal(signal.SIGCONT)
        time.sleep(3)
        together = len(frozen.lines) + len(other.lines) - before
        # one that it had begun when it froze, one a second, and one for the ends
        assert together <= time.time() - at + 2, "a burst"


REPLICA = """
import sys, time
from probes.scheduling.dbos_scheduler import DbosScheduler
scheduler = DbosScheduler(sys.argv[1], poll_s=0.1, look_s=1)
scheduler.every(name="a", interval_s=1, first_in_s=0, job=lambda: print("ran", flush=True))
scheduler.start()
time.sleep(120)
"""


class _Lines:
    """What a process has printed so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process, self.lines = process, list[str]()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def __enter__(self) -> "_Lines":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self._thread.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_a_tick_that_still_runs_is_not_removed_however_many_follow_it(
    tmp_path: Path, quick_dbos: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its round takes many intervals; DBOS writes down the end of what it began, and complains otherwise."""
    from probes.scheduling.dbos_scheduler import DbosScheduler

    monkeypatch.setattr("probes.scheduling.ticks.KEPT", 2)
    file, job = tmp_path / "scheduler.sqlite", Log(takes_s=3.0)
    scheduler = DbosScheduler(f"sqlite:///{file}", **FAST)
    scheduler.every(name="a", interval_s=0.2, first_in_s=0.0, job=job)
    scheduler.start()
    try:
        job.wait(1)
        _until(lambda: _numbers(file)[-1] >= 5)
        assert _numbers(file)[0] == 1
        job.takes_s = 0.0
        job.wait(4)
    finally:
        scheduler.stop(grace_s=5)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def _numbers(file: Path) -> list[int]:
    connection = sqlite3.connect(file)
    try:
        rows = connection.execute("select workflow_uuid from workflow_status").fetchall()
    finally:
        connection.close()
    return sorted(int(row[0].rpartition(":")[2]) for row in rows)


def test_old_ticks_are_removed(tmp_path: Path, quick_dbos: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from probes.scheduling.dbos_scheduler import DbosScheduler

    monkeypatch.setattr("probes.scheduling.ticks.KEPT", 3)
    file, job = tmp_path / "scheduler.sqlite", Log()
    scheduler = DbosScheduler(f"sqlite:///{file}", **FAST)
    scheduler.every(name="a", interval_s=0.05, first_in_s=0.0, job=job)
    scheduler.start()
    try:
        job.wait(9)
    finally:
        scheduler.stop(grace_s=5)
    with sqlite3.connect(file) as connection:
        (ticks,) = connection.execute("select count(*) from workflow_status").fetchone()
    connection.close()
    assert 1 < ticks <= 4


def test_dbos_opens_no_connection_prints_nothing_and_is_one_per_process(tmp_path: Path) -> None:
    """In a process of its own: what it writes and whom it calls is seen whole."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET, f"sqlite:///{tmp_path / 's.sqlite'}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert (
        run.stdout
        == "another DBOS runs in this process; use APScheduler here (scheduler: apscheduler)\n0 connections\n"
    )


QUIET = """
import socket, sys, threading
calls = []
def audit(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        calls.append(arguments)
sys.addaudithook(audit)
from probes.scheduling import SchedulerError, make_scheduler
from probes.scheduling.dbos_scheduler import DbosScheduler
ran = threading.Event()
scheduler = DbosScheduler(sys.argv[1], poll_s=0.1)
scheduler.every(name="a", interval_s=60, first_in_s=0, job=ran.set)
scheduler.start()
assert ran.wait(20)
try:
    make_scheduler("dbos", sys.argv[1] + "2", 1).start()
except SchedulerError as error:
    print(error)
assert scheduler.stop(grace_s=5)
print(len(calls), "connections")
"""


def _until(look: Callable[[], Any], *, timeout: float = 15.0) -> Any:
    """What ``look`` says, once that is true."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.05)
    return found


def _waiting(file: Path) -> float | None:
    """When the waiting tick in the scheduler's tables is due, Unix seconds."""
    connection = sqlite3.connect(file)
    try:
        rows = connection.execute(
            "select delay_until_epoch_ms from workflow_status where status = 'DELAYED'"
        ).fetchall()
    finally:
        connection.close()
    assert len(rows) <= 1
    return rows[0][0] / 1000 if rows else None
