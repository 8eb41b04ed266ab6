"""This process, one task after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sif_offline.executors.base import Done, Event, Noted, Started, Task, Work


@dataclass(frozen=True)
class LocalExecutor:
    """See :class:`~sif_offline.executors.base.Executor`.

    Args:
        device: of the one worker.
    """

    device: str = "cpu"
    name: str = "local"

    def run(
        self,
        work: Work[Task, Any],
        tasks: Sequence[Task],
        *,
        on_event: Callable[[Event], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """See :class:`~sif_offline.executors.base.Executor`."""
        if not tasks:
            return
        run = work.open(self.device)
        for place, task in enumerate(tasks):
            on_event(Started(place, "this process"))
            result = run(task, lambda note, place=place: on_event(Noted(place, note)))  # type: ignore[misc]
            on_event(Done(place, result))
            if stop():
                return
