"""Where the work runs: this process, a process per device, Ray. Knows nothing of what is run."""

from sif_offline.executors.base import (
    Done,
    Event,
    Executor,
    ExecutorError,
    Lost,
    Noted,
    Started,
    Work,
)
from sif_offline.executors.registry import EXECUTORS, make_executor

__all__ = [
    "EXECUTORS",
    "Done",
    "Event",
    "Executor",
    "ExecutorError",
    "Lost",
    "Noted",
    "Started",
    "Work",
    "make_executor",
]
