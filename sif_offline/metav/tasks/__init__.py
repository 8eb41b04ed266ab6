"""What models of a zoo are trained to do. A new task is one file here and one row in ``TASKS``."""

from sif_offline.metav.tasks.base import FitSettings, Task, TaskData, TaskError
from sif_offline.metav.tasks.registry import TASKS, make_task

__all__ = ["TASKS", "FitSettings", "Task", "TaskData", "TaskError", "make_task"]
