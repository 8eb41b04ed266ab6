"""This process, one task after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
            on_event(Done(place, run(task, partial(_note, on_event, place))))
            if stop():
                return


def _note(on_event: Callable[[Event], None], place: int, note: Any) -> None:
    on_event(Noted(place, note))
