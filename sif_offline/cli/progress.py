"""Progress bars of the long commands, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
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
    """A bar for the triggers finished, and one with the steps of each batch in progress."""
    with _bars() as bars:
        triggers = bars.add_task("triggers", total=count)
        running: dict[tuple[str, ...], TaskID] = {}

        def report(progress: "ForgeProgress") -> None:
            bars.update(triggers, completed=progress.finished)
            if progress.lost:
                bars.console.print(progress.lost, highlight=False)
            step, batch = progress.step, progress.batch
            if step is None:  # finished, or begins again
                if batch in running:
                    bars.remove_task(running.pop(batch))
                return
            if batch not in running:
                running[batch] = bars.add_task("", total=None)
            names = f"{batch[0]}..{batch[-1]}" if len(batch) > 1 else batch[0]
            bars.update(
                running[batch],
                completed=step.number,
                total=step.total,
                description=f"{names}: {step.describe()}",
            )

        yield report


@contextmanager
def counting(description: str) -> Iterator[Callable[[int, int], None]]:
    """One bar that is told (done, of how many)."""
    with _bars() as bars:
        task = bars.add_task(description, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
