"""Which scheduler a store calls for."""

import logging
import sys
from typing import Literal

from pydantic import SecretStr
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from probes.scheduling.apscheduler_scheduler import APSchedulerScheduler
from probes.scheduling.base import Scheduler, SchedulerError

logger = logging.getLogger(__name__)

SchedulerKind = Literal["auto", "apscheduler", "dbos"]


def make_scheduler(kind: SchedulerKind, store_url: SecretStr | str, parallel: int) -> Scheduler:
    """The scheduler for a store.

    Args:
        kind: ``apscheduler`` keeps due times in memory, for one process. ``dbos`` keeps them in the store's
            database, for any number of replicas. ``auto`` is DBOS on PostgreSQL, APScheduler otherwise, and
            where this process uses DBOS for something else.
        store_url: SQLAlchemy URL of the store.
        parallel: jobs that may run at once in this process.

    Raises:
        SchedulerError: DBOS cannot keep its tables where the store is.
    """
    secret = store_url.get_secret_value() if isinstance(store_url, SecretStr) else store_url
    try:
        url = make_url(secret)
    except ArgumentError:
        raise SchedulerError("scheduler: the store's URL is not one that SQLAlchemy reads") from None
    postgresql = url.get_backend_name() == "postgresql"
    if kind == "apscheduler" or (kind == "auto" and not postgresql):
        return APSchedulerScheduler(parallel=parallel)
    if kind == "auto" and _dbos_is_taken():
        logger.warning(
            "scheduler: this process uses DBOS for something else, so each replica keeps its own due times "
            "(apscheduler); the store still lets one of them run a round"
        )
        return APSchedulerScheduler(parallel=parallel)
    from probes.scheduling.dbos_scheduler import DbosScheduler  # its import takes a second

    return DbosScheduler(_scheduler_database(url), parallel=parallel)


def _dbos_is_taken() -> bool:
    if "dbos" not in sys.modules:
        return False
    from probes.scheduling.ticks import dbos_is_taken

    return dbos_is_taken()


def _scheduler_database(url: URL) -> str:
    """PostgreSQL: the store's own database. SQLite: a file beside the store, which takes one writer only."""
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise SchedulerError("scheduler: dbos needs a store in a file or in PostgreSQL, not in memory")
        url = url.set(database=f"{url.database}.scheduler")
    elif url.get_backend_name() != "postgresql":
        raise SchedulerError(f"scheduler: dbos needs PostgreSQL or SQLite, not {url.get_backend_name()}")
    return url.render_as_string(hide_password=False)
