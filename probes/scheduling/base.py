"""What the watch asks of a scheduler."""

from collections.abc import Callable
from typing import Protocol


class Scheduler(Protocol):
    """Runs jobs at an interval. A job never runs beside itself, and a missed run is not made up for."""

    def every(self, *, name: str, interval_s: float, first_in_s: float, job: Callable[[], None]) -> None:
        """Run ``job`` every ``interval_s`` seconds, first after ``first_in_s``. Names are unique."""
        ...

    def next_run(self, name: str) -> float | None:
        """When the job runs next, Unix seconds; None where it is not scheduled."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self, *, grace_s: float) -> bool:
        """Start nothing more and wait up to ``grace_s`` seconds for what runs; whether all of it ended."""
        ...
