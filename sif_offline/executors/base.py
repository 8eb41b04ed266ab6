"""What an executor promises, whatever carries it out.

Tasks are the unit of work and of loss: an executor never cuts one or joins two, runs each to its end once,
and repeats one only when the worker that held it died. So the outcome depends on the tasks alone, not on how
many workers there are or who takes which.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sif_offline.fingerprint.errors import SifError

MAX_LOSSES = 3
"""Workers that may die over the same task before the run gives up on it."""

Task = TypeVar("Task")
TaskIn = TypeVar("TaskIn", contravariant=True)
Result = TypeVar("Result")
ResultOut = TypeVar("ResultOut", covariant=True)


class ExecutorError(SifError):
    """Workers that cannot be started, or that die over and over; names the executor."""


class Work(Protocol[TaskIn, ResultOut]):
    """What workers do. Picklable where the executor has workers outside this process."""

    def open(self, device: str) -> Callable[[TaskIn, Callable[[Any], None]], ResultOut]:
        """Called once in every worker.

        Args:
            device: the torch device that is this worker's alone, such as ``cuda:1``, or ``cpu``.

        Returns:
            ``run(task, note)``: the task's result; ``note`` takes picklable words on the way there.
        """
        ...


@dataclass(frozen=True)
class Started:
    """A worker took a task up."""

    task: int
    worker: str


@dataclass(frozen=True)
class Noted:
    """What a task in progress says of itself. Executors may leave notes out."""

    task: int
    note: Any


@dataclass(frozen=True)
class Done(Generic[Result]):
    """A task's result."""

    task: int
    result: Result


@dataclass(frozen=True)
class Lost:
    """A worker died, and its task will be done again by another."""

    task: int
    worker: str
    reason: str


Event = Started | Noted | Done[Any] | Lost


class Executor(Protocol):
    """Runs tasks. Nothing is shared between two runs."""

    @property
    def name(self) -> str:
        """In messages."""
        ...

    def run(
        self,
        work: Work[Task, Any],
        tasks: Sequence[Task],
        *,
        on_event: Callable[[Event], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run all tasks, started in their order; finished in any.

        Args:
            work: what to do with each.
            tasks: picklable where the executor has workers outside this process.
            on_event: called in this thread; a task is named by its place in ``tasks``.
            stop: asked after every finished task; once true, no task is started, those that run are given up
                and the call returns.

        Raises:
            ExecutorError: no worker can be started, or :data:`MAX_LOSSES` workers died over one task.
            Exception: what a task raised, as it raised it; the other workers are stopped. Ctrl-C likewise.
        """
        ...
