"""DBOS: due times in the database, so that several replicas share one schedule.

A run is a *tick*, a DBOS workflow that waits in a queue until its drawn time. Its id is ``JOB:NUMBER``, so
that whoever places the next one, and however often, there is one; a replica that is free takes it from the
queue in one transaction. Each run places the next before it begins. A tick is claimed once and never given
out again: DBOS repeats what a process that died had begun only under that process's own executor id, and
each of ours is used once. What a round itself may do, leases and intents in the store decide.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from probes.scheduling.base import Due, Rhythm, SchedulerError
from probes.scheduling.threads import DaemonThreads, Ticker
from probes.scheduling.ticks import Ticks
from probes.store.lease import new_holder

logger = logging.getLogger(__name__)

PASS_ON_S = 5.0
"""How long a tick waits that this process does not know: another replica may have the newer configuration."""

PASSES = 20
"""Passes after which a tick that no replica knows is dropped."""

T = TypeVar("T")


@dataclass
class _Job:
    rhythm: Rhythm
    run: Callable[[], None]
    due: Due
    busy: threading.Lock


class DbosScheduler:
    """The Scheduler protocol on DBOS, for any number of replicas on one database.

    Due times are kept to the second: DBOS looks at its queue once a second. DBOS is one per process.

    Args:
        database: SQLAlchemy URL of the database for the scheduler's tables: a file of their own with SQLite,
            a schema of their own (``sif_probes_scheduler``) with PostgreSQL.
        parallel: jobs that this process may run at once.
        poll_s: seconds between two looks at the queue.
        look_s: seconds of real time between two looks for a tick that is missing, or that the clock left
            behind.
        clock: Unix seconds.
    """

    def __init__(
        self,
        database: str,
        *,
        parallel: int = 8,
        poll_s: float = 1.0,
        look_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._parallel = parallel
        self._poll_s = poll_s
        self._look_s = look_s
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._open: set[threading.Event] = set()
        self._threads = DaemonThreads()
        self._ticker = Ticker("scheduler-look", every_s=look_s, call=self._look)
        self._ticks: Ticks | None = None
        self._stopping = False

    def every(
        self, *, name: str, interval_s: float, first_in_s: float, job: Callable[[], None], jitter_s: float = 0
    ) -> None:
        """See Scheduler. A name holds no colon."""
        if ":" in name:
            raise ValueError(f"a job's name must not hold a colon, got {name!r}")
        rhythm = Rhythm(interval_s, jitter_s)
        with self._lock:
            known = self._jobs.get(name)
            due = rhythm.first(self._clock() + first_in_s)
            self._jobs[name] = _Job(rhythm, job, due, known.busy if known else threading.Lock())
        if self._ticks is not None:
            _apart(lambda: self._place(name, move=known is not None))

    def remove(self, name: str) -> None:
        """See Scheduler. Replicas that still have the job go on with it."""
        with self._lock:
            self._jobs.pop(name, None)
        ticks = self._ticks
        if ticks is not None:
            _apart(lambda: ticks.cancel(name))

    def wake(self, name: str) -> None:
        """See Scheduler."""
        job, ticks = self._jobs.get(name), self._ticks
        if job is not None and ticks is not None:
            job.due = Due(job.due.nominal, self._clock())
            _apart(lambda: self._place(name, move=True))

    def next_run(self, name: str) -> float | None:
        """See Scheduler. A tick that another replica placed is known after a look."""
        job = self._jobs.get(name)
        return None if job is None else job.due.at

    def start(self) -> None:
        """See Scheduler."""
        try:
            self._ticks = _apart(self._launch)
        except SchedulerError:
            raise
        except Exception as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise SchedulerError(f"the scheduler cannot be started: {said}") from None
        self._threads.start("scheduler-first-look", lambda: self._look(first=True))
        self._ticker.start()

    def stop(self, *, grace_s: float) -> bool:
        """See Scheduler. A tick that comes in meanwhile is left to another replica, or to the next start."""
        self._stopping = True
        self._ticker.stop()
        if self._ticks is None:
            return True
        # DBOS takes nothing more and waits until its workflows end, which let_go sees to in the end
        closing = threading.Thread(target=self._ticks.close, args=(grace_s,), daemon=True)
        closing.start()
        ended = self._threads.join(grace_s)
        self._let_go()
        closing.join(timeout=30)
        return ended

    def _let_go(self) -> None:
        with self._lock:
            for done in self._open:
                done.set()

    # -- in DBOS

    def _launch(self) -> Ticks:
        ticks = Ticks(
            self._database,
            executor_id=new_holder(),
            parallel=self._parallel,
            poll_s=self._poll_s,
            run=self._tick,
        )
        ticks.launch()
        return ticks

    def _tick(self, name: str, number: int, nominal: float, passes: int) -> None:
        """The workflow: one run of a job, as long as it takes."""
        job = self._jobs.get(name)
        if job is None or self._stopping:
            self._pass_on(name, number, nominal, passes, known=job is not None)
            return
        done = threading.Event()
        with self._lock:
            self._open.add(done)
        self._threads.start(name, lambda: self._run(name, job, number, nominal, done))
        done.wait()
        with self._lock:
            self._open.discard(done)

    def _run(self, name: str, job: _Job, number: int, nominal: float, done: threading.Event) -> None:
        try:
            job.due = job.rhythm.after(nominal, now=self._clock())
            if self._ticks is None or not self._ticks.put(name, number + 1, job.due):
                self._place(name)
            if job.busy.acquire(blocking=False):
                try:
                    job.run()
                finally:
                    job.busy.release()
            else:
                logger.info("target %s: a round is still running; this one is left out", name)
        except Exception:
            logger.exception("target %s: round failed", name)
        finally:
            done.set()

    def _pass_on(self, name: str, number: int, nominal: float, passes: int, *, known: bool) -> None:
        """Leave a tick to another replica."""
        if self._ticks is None or passes >= PASSES:
            logger.warning("target %s: no replica has it; its rounds end", name)
            return
        ticks = self._ticks
        due = Due(nominal, self._clock() + (0.0 if known else PASS_ON_S))
        # apart, or DBOS would make it a child of this workflow
        _apart(lambda: ticks.put(name, number + 1, due, passes=passes + (not known)))

    # -- what is missing

    def _look(self, *, first: bool = False) -> None:
        """Place ticks that are missing, and bring back those that a wrong clock put into the future."""
        now = self._clock()
        for name, job in list(self._jobs.items()):
            if self._stopping:
                return
            try:
                if job.rhythm.too_far(job.due.at, now=now):
                    job.due = job.rhythm.after(job.due.nominal, now=now)
                    self._place(name, move=True)
                    logger.warning("target %s: the clock went back; its next round is timed anew", name)
                elif first:
                    self._place(name)
                elif job.due.at < now - self._look_s:
                    self._place(name, late=True)
            except Exception as error:  # the database is away; DBOS says more
                logger.warning("the scheduler's tables cannot be read: %s", type(error).__name__)
                return

    def _place(self, name: str, *, move: bool = False, late: bool = False) -> None:
        """See that a tick of the job waits.

        ``move``: at the time that the job has, also where it waits already. ``late``: the job's time has
        passed; where its run was lost, or is another replica's, the job has the time after it.
        """
        job, ticks = self._jobs.get(name), self._ticks
        if job is None or ticks is None:
            return
        newest, now = ticks.newest(name), self._clock()
        if newest.due is not None and not move and not job.rhythm.too_far(newest.due, now=now):
            job.due = Due(job.due.nominal, newest.due)
            return
        if newest.claimed and not late:
            return  # who has it places the next; should it die before, a later look finds that none waits
        if late and job.due.at <= now:  # or its run has begun since, and has given it the next time
            job.due = job.rhythm.after(job.due.nominal, now=now)
        if newest.due is not None:
            ticks.move(name, newest.number, job.due.at)
        elif not ticks.put(name, newest.number + 1, job.due):  # another replica was faster
            self._place(name)


def _apart(call: Callable[[], T]) -> T:
    """Call in a thread of its own: beside an event loop DBOS refuses to be called, or adopts the loop."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
