"""When rounds run: a small protocol, with APScheduler or DBOS behind it."""

from probes.scheduling.apscheduler_scheduler import APSchedulerScheduler
from probes.scheduling.base import Due, Rhythm, Scheduler, SchedulerError
from probes.scheduling.factory import SchedulerKind, make_scheduler

__all__ = [
    "APSchedulerScheduler",
    "Due",
    "Rhythm",
    "Scheduler",
    "SchedulerError",
    "SchedulerKind",
    "make_scheduler",
]
