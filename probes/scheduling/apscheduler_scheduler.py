"""APScheduler 3 for one process: an interval a job, in daemon threads of our own."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger


class DaemonThreads(BaseExecutor):  # type: ignore[misc]
    """One daemon thread a run, ``parallel`` at a time.

    APScheduler's own pool is joined when the interpreter exits, so that one hanging endpoint would keep the
    service from stopping; what a daemon thread leaves behind is an open intent, which the next start puts
    in doubt.
    """

    def __init__(self, *, parallel: int) -> None:
        super().__init__()
        self._slots = threading.BoundedSemaphore(parallel)
        self._threads: set[threading.Thread] = set()

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        thread = threading.Thread(target=self._run, args=(job, run_times), name=job.id, daemon=True)
        self._threads = {other for other in self._threads if other.is_alive()} | {thread}
        thread.start()

    def _run(self, job: Any, run_times: list[datetime]) -> None:
        with self._slots:
            try:
                events = run_job(job, job._jobstore_alias, run_times, self._logger.name)
            except BaseException as error:  # the executor must learn of it, or the job never runs again
                self._run_job_error(job.id, error, error.__traceback__)
            else:
                self._run_job_success(job.id, events)

    def join(self, timeout_s: float) -> bool:
        """Wait for the running threads; whether all of them ended in time."""
        deadline = time.monotonic() + timeout_s
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


class APSchedulerScheduler:
    """The Scheduler protocol on APScheduler. ``parallel``: jobs that may run at once."""

    def __init__(self, *, parallel: int = 8) -> None:
        self._threads = DaemonThreads(parallel=parallel)
        self._scheduler = BackgroundScheduler(executors={"default": self._threads}, timezone=UTC)

    def every(self, *, name: str, interval_s: float, first_in_s: float, job: Callable[[], None]) -> None:
        """See Scheduler."""
        first = datetime.now(UTC) + timedelta(seconds=first_in_s)
        self._scheduler.add_job(
            job,
            IntervalTrigger(seconds=interval_s, timezone=UTC),
            id=name,
            next_run_time=first,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

    def next_run(self, name: str) -> float | None:
        """See Scheduler."""
        job = self._scheduler.get_job(name)
        due = None if job is None else job.next_run_time
        return None if due is None else float(due.timestamp())

    def start(self) -> None:
        """See Scheduler."""
        self._scheduler.start()

    def stop(self, *, grace_s: float) -> bool:
        """See Scheduler."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        return self._threads.join(grace_s)
