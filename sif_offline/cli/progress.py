"""Progress bars of the long commands, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from sif_offline.forging.pipeline import Progress as ForgeProgress


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


@contextmanager
def forge_progress(count: int) -> Iterator[Callable[["ForgeProgress"], None]]:
    """Two bars: triggers finished, and steps of the running batch."""
    with _bars() as bars:
        triggers = bars.add_task("triggers", total=count)
        steps = bars.add_task("steps", total=None)

        def report(progress: "ForgeProgress") -> None:
            bars.update(triggers, completed=progress.finished)
            if progress.step is not None:
                step = progress.step
                state = step.describe()
                names = (
                    f"{progress.batch[0]}..{progress.batch[-1]}"
                    if len(progress.batch) > 1
                    else progress.batch[0]
                )
                bars.update(steps, completed=step.number, total=step.total, description=f"{names}: {state}")

        yield report


@contextmanager
def counting(description: str) -> Iterator[Callable[[int, int], None]]:
    """One bar that is told (done, of how many)."""
    with _bars() as bars:
        task = bars.add_task(description, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
