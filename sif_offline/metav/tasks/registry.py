"""Tasks by name."""

from collections.abc import Mapping
from types import MappingProxyType

from sif_offline.metav.tasks.base import Task, TaskError
from sif_offline.metav.tasks.digits import DIGITS

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (DIGITS,)})


def make_task(name: str) -> Task:
    """The task ``name``. Raises ``TaskError``: there is none."""
    if name not in TASKS:
        raise TaskError(f"task {name}: not one of {', '.join(TASKS)}")
    return TASKS[name]
