"""When rounds run: a small protocol, and APScheduler behind it."""

from probes.scheduling.apscheduler_scheduler import APSchedulerScheduler
from probes.scheduling.base import Scheduler

__all__ = ["APSchedulerScheduler", "Scheduler"]
