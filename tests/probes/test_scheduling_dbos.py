"""What DBOS alone does: ticks in tables that outlive a process, replicas, and a library that keeps quiet."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from probes.scheduling import APSchedulerScheduler, SchedulerError, make_scheduler
from tests.probes.schedules import FAST, Log


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
