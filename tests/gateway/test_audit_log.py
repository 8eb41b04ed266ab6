"""The queue before the sink: traffic never waits, and a broken sink loses nothing that fits."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway_plugin.audit import AuditError, AuditLog, AuditRecord, JsonlSink, read_jsonl

LONG_S = 60.0  # never waited for; only so that a defect ends


def record(call_id: object, **changed: Any) -> AuditRecord:
    return AuditRecord(phase="request", action="flag", effective="flag", call_id=str(call_id), **changed)


class Sink:
    """Keeps the calls it was given; ``fault`` may raise instead."""

    def __init__(self, fault: Callable[[Sequence[AuditRecord]], None] = lambda records: None) -> None:
        self.stored: list[str] = []
        self.batches: list[int] = []
        self.fault = fault
        self.closed = 0
        self.wrote = threading.Condition()

    def write(self, records: Sequence[AuditRecord]) -> None:
        self.fault(records)
        with self.wrote:
            self.stored += [each.call_id for each in records]
            self.batches.append(len(records))
            self.wrote.notify_all()

    def close(self) -> None:
        self.closed += 1

    def wait_for(self, count: int) -> None:
        with self.wrote:
            assert self.wrote.wait_for(lambda: len(self.stored) >= count, timeout=LONG_S)


class Losses(list[tuple[str, int]]):
    def __call__(self, kind: str, count: int) -> None:
        self.append((kind, count))


@pytest.fixture
def logs() -> Iterator[Callable[..., AuditLog]]:
    made: list[AuditLog] = []

    def make(sink: Any, **options: Any) -> AuditLog:
        made.append(AuditLog(sink, **{"linger_s": 0.0, "retry_s": 0.01, **options}))
        return made[-1]

    yield make
    for log in made:
        log.close(1.0)


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_records_are_written_in_order_without_being_waited_for(logs: Callable[..., AuditLog]) -> None:
    sink = Sink()
    log = logs(sink)
    for name in names(1000):
        log.put(record(name))
    sink.wait_for(1000)
    assert sink.stored == names(1000)


def test_records_are_written_together(logs: Callable[..., AuditLog]) -> None:
    sink = Sink()
    log = logs(sink, linger_s=LONG_S, batch=40)
    for name in names(100):
        log.put(record(name))
    log.close(LONG_S)
    assert sink.batches == [40, 40, 20]


def test_no_thread_before_the_first_record(logs: Callable[..., AuditLog]) -> None:
    sink = Sink()
    log = logs(sink)
    assert not [thread for thread in threading.enumerate() if thread.name == "sif-audit"]
    log.put(record("a"))
    sink.wait_for(1)
    log.close(LONG_S)
    assert sink.closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "sif-audit"]


def test_many_threads_put_at_once(logs: Callable[..., AuditLog]) -> None:
    sink, lost = Sink(), Losses()
    log = logs(sink, on_lost=lost)
    threads = [
        threading.Thread(target=lambda k=k: [log.put(record(f"{k}.{i}")) for i in range(200)])
        for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close(LONG_S)
    assert sorted(sink.stored) == sorted(f"{k}.{i}" for k in range(8) for i in range(200))
    assert lost == []


def test_a_full_queue_counts_and_never_waits(logs: Callable[..., AuditLog]) -> None:
    go, lost = threading.Event(), Losses()
    sink = Sink(lambda records: go.wait(LONG_S) and None)
    log = logs(sink, on_lost=lost, max_records=5)
    began = time.monotonic()
    for name in names(12):
        log.put(record(name))
    assert time.monotonic() - began < LONG_S / 2
    assert lost == [("full", 1)] * 7
    assert log.waiting == 5
    go.set()
    log.close(LONG_S)
    assert sink.stored == names(5)
    assert log.waiting == 0


def test_long_texts_fill_the_queue_sooner(logs: Callable[..., AuditLog]) -> None:
    go, lost = threading.Event(), Losses()
    sink = Sink(lambda records: go.wait(LONG_S) and None)
    log = logs(sink, on_lost=lost, max_bytes=2**20)
    for name in names(20):
        log.put(record(name, prompt="x" * 100_000))
    assert len(lost) == 10
    go.set()
    sink.wait_for(10)
    log.put(record("later", prompt="x" * 100_000))  # there is room again
    sink.wait_for(11)


def test_a_broken_sink_is_tried_again_and_nothing_is_lost(
    logs: Callable[..., AuditLog], caplog: pytest.LogCaptureFixture
) -> None:
    tries, lost = [], Losses()

    def fault(records: Sequence[AuditRecord]) -> None:
        tries.append(time.monotonic())
        if len(tries) <= 5:
            raise AuditError("the disk is full")

    sink = Sink(fault)
    log = logs(sink, on_lost=lost)
    with caplog.at_level(logging.WARNING, logger="sifwatch.gateway"):
        for name in names(50):
            log.put(record(name, prompt="private words"))
        sink.wait_for(50)
        log.close(LONG_S)
    assert sink.stored == names(50)
    assert lost == []
    waits = [later - earlier for earlier, later in pairwise(tries[:6])]
    assert all(wait >= 0.009 * 2**k for k, wait in enumerate(waits)), "backs off: 10, 20, 40, 80, 160 ms"
    said = [entry.getMessage() for entry in caplog.records]
    assert len(said) == 2, "one line when it breaks, one when it works again"
    assert said[0].startswith("audit: the disk is full; trying again")
    assert said[1] == "audit: records are stored again"


def test_a_record_that_the_sink_refuses_takes_no_other_with_it(
    logs: Callable[..., AuditLog], caplog: pytest.LogCaptureFixture
) -> None:
    def fault(records: Sequence[AuditRecord]) -> None:
        if any(each.call_id in "37" for each in records):
            raise ValueError("private words")

    sink, lost = Sink(fault), Losses()
    log = logs(sink, on_lost=lost, linger_s=LONG_S)
    for name in names(10):
        log.put(record(name))
    log.close(LONG_S)
    assert sink.stored == [name for name in names(10) if name not in "37"]
    assert lost == [("sink", 1), ("sink", 1)]
    assert "ValueError" in caplog.text
    assert "private words" not in caplog.text


def test_closing_writes_what_is_queued_or_counts_it(logs: Callable[..., AuditLog]) -> None:
    def fault(records: Sequence[AuditRecord]) -> None:
        raise AuditError("gone for good")

    lost = Losses()
    log = logs(Sink(fault), on_lost=lost)
    for name in names(20):
        log.put(record(name))
    began = time.monotonic()
    log.close(0.3)
    assert time.monotonic() - began < LONG_S / 2
    assert lost == [("sink", 20)]
    log.put(record("late"))
    assert lost == [("sink", 20), ("sink", 1)]
    log.close()
    assert log.waiting == 0


def test_a_sink_that_hangs_does_not_hang_the_end(logs: Callable[..., AuditLog]) -> None:
    go, lost = threading.Event(), Losses()
    log = logs(Sink(lambda records: go.wait(LONG_S) and None), on_lost=lost)
    log.put(record("a"))
    log.close(0.2)
    assert lost == [("sink", 1)]
    go.set()


def test_a_broken_counter_breaks_nothing(logs: Callable[..., AuditLog]) -> None:
    def broken(kind: str, count: int) -> None:
        raise RuntimeError("no such metric")

    sink = Sink()
    log = logs(sink, on_lost=broken, max_records=0)
    log.put(record("a"))
    log.close(LONG_S)
    log.put(record("b"))
    assert sink.stored == []


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout


START = """
import os, resource, sys, time
from gateway_plugin.audit import AuditLog, AuditRecord, JsonlSink
lost = []
log = AuditLog(JsonlSink(sys.argv[1]), on_lost=lambda kind, n: lost.append((kind, n)), retry_s=0.01)
put = lambda name: log.put(AuditRecord(phase="request", action="flag", effective="flag", call_id=name))
"""


def test_a_process_that_ends_writes_what_is_queued(tmp_path: Path) -> None:
    run(START + "for i in range(300): put(str(i))", str(tmp_path / "a.jsonl"))
    assert [row["call_id"] for row in read_jsonl(tmp_path / "a.jsonl")] == names(300)


def test_a_process_may_fork_before_and_after_the_first_record(tmp_path: Path) -> None:
    """As a server does that makes its workers after it has loaded its configuration."""
    script = """
def child(name):
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
    else:
        put(name)
        log.close(30)
        os._exit(len(lost))

child("before")
for i in range(50): put(f"parent {i}")
child("after")
log.close(30)
"""
    run(START + script, str(tmp_path / "a.jsonl"))
    rows = [row["call_id"] for row in read_jsonl(tmp_path / "a.jsonl")]
    assert sorted(rows) == sorted(["before", "after", *(f"parent {i}" for i in range(50))])


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path) -> None:
    script = """
import json
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, hard))
for i in range(200):
    put(str(i))
time.sleep(0.2)
waiting = log.waiting
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.close(30)
print(json.dumps([waiting, lost]))
"""
    done = subprocess.run(
        [sys.executable, "-c", START + script, str(tmp_path / "a.jsonl")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    waiting, lost = json.loads(done.stdout)
    assert waiting >= 190
    assert lost == []
    rows = read_jsonl(tmp_path / "a.jsonl")
    assert [row["call_id"] for row in rows] == names(200)
    assert rows.skipped == 0


def test_the_file_sink_fits(tmp_path: Path, logs: Callable[..., AuditLog]) -> None:
    log = logs(JsonlSink(tmp_path / "a.jsonl"))
    log.put(record("a"))
    log.close(LONG_S)
    assert [row["call_id"] for row in read_jsonl(tmp_path / "a.jsonl")] == ["a"]
