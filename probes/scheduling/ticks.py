"""The one place that touches DBOS: ticks that wait in a queue in its tables."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetEnqueueOptions, SetWorkflowID, _dbos, error

from probes.scheduling.base import Due, SchedulerError

NAME = "sif-probes"
SCHEMA = "sif_probes_scheduler"
PROTOCOL = "1"
"""Raised when a tick's arguments change: DBOS gives a tick only to processes of the same version."""

KEPT = 5
"""Ticks of a job that stay in the tables once they have ended."""

ABANDONED = 500
"""Ticks after which one that never ended is taken to be a dead process's."""

RunTick = Callable[[str, int, float, int], None]


def dbos_is_taken() -> bool:
    """Whether something in this process uses DBOS already.

    There is one DBOS a process. Where it, or only its list of workflows, belongs to a host application, ours
    would run the host's workflows on our tables, and end them with itself.
    """
    registry = _dbos._dbos_global_registry  # DBOS has no public name for either
    return _dbos._dbos_global_instance is not None or bool(registry and registry.workflow_info_map)


@dataclass(frozen=True)
class Newest:
    """The last tick of a job: ``due`` (Unix seconds) while it waits, ``claimed`` while a replica has it."""

    number: int
    due: float | None = None
    claimed: bool = False


class Ticks:
    """The ticks of all jobs. Call it where no event loop runs.

    Args:
        database: SQLAlchemy URL.
        executor_id: a name that no process had before, so that DBOS recovers nobody's ticks.
        parallel: ticks that this process may hold at once.
        poll_s: seconds between two looks at the queue.
        run: what a tick does: job, number, nominal time, how often it was passed on.

    Raises:
        SchedulerError: this process uses DBOS already.
    """

    def __init__(
        self, database: str, *, executor_id: str, parallel: int, poll_s: float, run: RunTick
    ) -> None:
        if dbos_is_taken():
            raise SchedulerError(
                "another DBOS runs in this process; use APScheduler here (scheduler: apscheduler)"
            )
        self._parallel = parallel
        self._poll_s = poll_s
        # DBOS would print to the console; the application decides what is logged
        logging.getLogger("dbos").addHandler(logging.NullHandler())
        config: DBOSConfig = {
            "name": NAME,
            "system_database_url": database,
            "dbos_system_schema": SCHEMA,
            "application_version": PROTOCOL,
            "executor_id": executor_id,
            "sys_db_pool_size": 5,
            "notification_listener_polling_interval_sec": poll_s,
            "log_level": "WARNING",
            "enable_otlp": False,
            # its default is pickle, which whoever may write to the database could make run anything
            "serializer": DBOSPortableJSONSerializer(),
        }
        DBOS(config=config)

        def tick(name: str, number: int, nominal: float, passes: int) -> None:
            run(name, number, nominal, passes)

        self._tick = DBOS.workflow(name="sif_probes_tick")(tick)

    def launch(self) -> None:
        """Create or migrate the tables, then begin to take ticks."""
        try:
            DBOS.launch()
            DBOS.register_queue(
                NAME,
                worker_concurrency=self._parallel,
                polling_interval_sec=self._poll_s,
                on_conflict="always_update",
            )
        except BaseException:
            DBOS.destroy(destroy_registry=True)
            raise

    def close(self, grace_s: float) -> None:
        """Take no more ticks, and wait for those under way."""
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=math.ceil(grace_s) + 1)

    def put(self, name: str, number: int, due: Due, *, passes: int = 0) -> bool:
        """Place a tick, and remove the one that grew too old; False where it was placed before."""
        wait = due.at - time.time()
        try:
            with (
                SetWorkflowID(f"{name}:{number}", workflow_id_reuse_policy="reject"),
                SetEnqueueOptions(delay_seconds=wait if wait > 0 else None),
            ):
                DBOS.enqueue_workflow(NAME, self._tick, name, number, due.nominal, passes)
        except error.DBOSWorkflowIDInUseError:
            return False
        if number > KEPT:
            self._forget(f"{name}:{number - KEPT}")
        return True

    def _forget(self, tick: str) -> None:
        """Remove a tick that has ended. Where a replica is still at it, DBOS there would miss it."""
        status = DBOS.get_workflow_status(tick)
        if status is not None and status.status != "PENDING":
            DBOS.delete_workflow(tick)

    def newest(self, name: str) -> Newest:
        """The last tick of a job; its number is 0 where there is none."""
        rows = DBOS.list_workflows(workflow_id_prefix=f"{name}:", load_input=False, load_output=False)
        newest = max(rows, key=lambda row: _number(row.workflow_id), default=None)
        if newest is None:
            return Newest(0)
        number = _number(newest.workflow_id)
        old = [
            row.workflow_id
            for row in rows
            if _number(row.workflow_id) <= number - (ABANDONED if row.status == "PENDING" else KEPT)
        ]
        if old:
            DBOS.delete_workflows(old)
        if newest.status not in ("DELAYED", "ENQUEUED"):
            return Newest(number, claimed=newest.status == "PENDING")
        return Newest(number, due=(newest.delay_until_epoch_ms or newest.created_at or 0) / 1000)

    def move(self, name: str, number: int, at: float) -> None:
        """Let a waiting tick be due at another time, Unix seconds."""
        DBOS.set_workflow_delay(f"{name}:{number}", delay_until_epoch_ms=max(0, int(at * 1000)))

    def cancel(self, name: str) -> None:
        """Take away the waiting tick of a job."""
        newest = self.newest(name)
        if newest.due is not None:
            DBOS.cancel_workflow(f"{name}:{newest.number}")


def _number(tick: str) -> int:
    return int(tick.rpartition(":")[2])
