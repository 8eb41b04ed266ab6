"""The scheduler: at an interval, never beside itself, and a stop that does not hang."""

import threading
import time

from probes.scheduling import APSchedulerScheduler, Scheduler


def test_jobs_run_at_their_interval_and_never_beside_themselves() -> None:
    scheduler: Scheduler = APSchedulerScheduler()
    running, most, began = 0, 0, threading.Semaphore(0)
    lock = threading.Lock()

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        began.release()
        time.sleep(0.25)
        with lock:
            running -= 1

    scheduler.every(name="a", interval_s=0.1, first_in_s=0.0, job=job)
    scheduler.start()
    for _ in range(3):
        assert began.acquire(timeout=10)
    due = scheduler.next_run("a")
    assert due is not None
    assert abs(due - time.time()) < 10
    assert scheduler.next_run("b") is None
    assert scheduler.stop(grace_s=10)
    assert most == 1
    assert not began.acquire(timeout=0.5), "a job ran after the stop"


def test_a_job_that_fails_runs_again() -> None:
    scheduler = APSchedulerScheduler()
    began = threading.Semaphore(0)

    def job() -> None:
        began.release()
        raise RuntimeError("a bug")

    scheduler.every(name="a", interval_s=0.05, first_in_s=0.0, job=job)
    scheduler.start()
    try:
        assert began.acquire(timeout=10)
        assert began.acquire(timeout=10)
    finally:
        scheduler.stop(grace_s=5)


def test_a_stop_waits_no_longer_than_its_grace() -> None:
    scheduler = APSchedulerScheduler()
    began, release = threading.Event(), threading.Event()

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


def test_no_more_than_its_parallel_jobs_at_once() -> None:
    scheduler = APSchedulerScheduler(parallel=2)
    lock, running, most, done = threading.Lock(), 0, 0, threading.Semaphore(0)

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.1)
        with lock:
            running -= 1
        done.release()

    for number in range(5):
        scheduler.every(name=str(number), interval_s=60, first_in_s=0.0, job=job)
    scheduler.start()
    try:
        for _ in range(5):
            assert done.acquire(timeout=10)
    finally:
        scheduler.stop(grace_s=5)
    assert most == 2
