"""APScheduler 3 for one process: due times in memory, jobs in daemon threads of our own."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from probes.scheduling.base import Due, Rhythm
from probes.scheduling.threads import DaemonThreads, Ticker

logger = logging.getLogger(__name__)


class _Window(BaseTrigger):  # type: ignore[misc]
    """APScheduler's own jitter may also run a job early, and its delays add up; this one's do not."""

    def __init__(self, rhythm: Rhythm, first: Due) -> None:
        self.rhythm = rhythm
        self.due = first

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """The run that is due after ``now``; asked twice, it says the same."""
        if previous is not None and self.due.at <= now.timestamp():
            self.due = self.rhythm.after(self.due.nominal, now=now.timestamp())
        return datetime.fromtimestamp(self.due.at, UTC)


class _Executor(BaseExecutor):  # type: ignore[misc]
    """Runs jobs in daemon threads, ``parallel`` at a time."""

    def __init__(self, threads: DaemonThreads, *, parallel: int) -> None:
        super().__init__()
        self._threads = threads
        self._slots = threading.BoundedSemaphore(parallel)

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        self._threads.start(job.id, lambda: self._run(job, run_times))

    def _run(self, job: Any, run_times: list[datetime]) -> None:
        with self._slots:
            try:
                events = run_job(job, job._jobstore_alias, run_times, self._logger.name)
            except BaseException as error:  # the executor must learn of it, or the job never runs again
                self._run_job_error(job.id, error, error.__traceback__)
            else:
                self._run_job_success(job.id, events)


class APSchedulerScheduler:
    """The Scheduler protocol on APScheduler.

    Args:
        parallel: jobs that may run at once.
        look_s: seconds of real time between two looks at the clock.
        clock: Unix seconds.
    """

    def __init__(
        self, *, parallel: int = 8, look_s: float = 10.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._threads = DaemonThreads()
        executor = _Executor(self._threads, parallel=parallel)
        self._scheduler = BackgroundScheduler(executors={"default": executor}, timezone=UTC)
        self._ticker = Ticker("scheduler-clock", every_s=look_s, call=self._look)

    def every(
        self, *, name: str, interval_s: float, first_in_s: float, job: Callable[[], None], jitter_s: float = 0
    ) -> None:
        """See Scheduler."""
        rhythm = Rhythm(interval_s, jitter_s)
        first = rhythm.first(self._clock() + first_in_s)
        self._scheduler.add_job(
            job,
            _Window(rhythm, first),
            id=name,
            replace_existing=True,
            next_run_time=datetime.fromtimestamp(first.at, UTC),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

    def remove(self, name: str) -> None:
        """See Scheduler."""
        try:
            self._scheduler.remove_job(name)
        except JobLookupError:
            return

    def wake(self, name: str) -> None:
        """See Scheduler."""
        self._move(name, datetime.fromtimestamp(self._clock(), UTC))

    def next_run(self, name: str) -> float | None:
        """See Scheduler."""
        job = self._scheduler.get_job(name)
        due = None if job is None else job.next_run_time
        return None if due is None else float(due.timestamp())

    def start(self) -> None:
        """See Scheduler."""
        self._scheduler.start()
        self._ticker.start()

    def stop(self, *, grace_s: float) -> bool:
        """See Scheduler."""
        self._ticker.stop()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        return self._threads.join(grace_s)

    def _move(self, name: str, to: datetime) -> None:
        try:
            self._scheduler.modify_job(name, next_run_time=to)
        except JobLookupError:
            return

    def _look(self) -> None:
        """Mend what a clock that went back did; and wake up, for a machine that slept counts no seconds."""
        now = self._clock()
        for job in self._scheduler.get_jobs():
            trigger: _Window = job.trigger
            if trigger.rhythm.too_far(job.next_run_time.timestamp(), now=now):
                trigger.due = trigger.rhythm.after(trigger.due.nominal, now=now)
                self._move(job.id, datetime.fromtimestamp(trigger.due.at, UTC))
                logger.warning("target %s: the clock went back; its next round is timed anew", job.id)
        self._scheduler.wakeup()
