"""What the watch asks of a scheduler, and the arithmetic of due times that every scheduler shares."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sif_offline.fingerprint.errors import SifError


class SchedulerError(SifError):
    """The scheduler cannot be started."""


class Scheduler(Protocol):
    """Runs jobs at an interval, each at a random time inside its window.

    In one process a job never runs beside itself; between processes the store's lease sees to it. A missed
    run is not made up for, an exception in a job is logged and does not stop the next run. No run is ever
    further away than one interval and its window, whatever the clock does.
    """

    def every(
        self, *, name: str, interval_s: float, first_in_s: float, job: Callable[[], None], jitter_s: float = 0
    ) -> None:
        """Run ``job`` every ``interval_s`` seconds, first after ``first_in_s``, each time up to ``jitter_s`` later.

        The delay is uniform and drawn anew for each run. A job of the same name is replaced and re-timed.

        Raises:
            ValueError: the window is longer than the interval.
        """
        ...

    def remove(self, name: str) -> None:
        """Run the job no more; what runs just now ends by itself. A name that is not there is no error."""
        ...

    def wake(self, name: str) -> None:
        """Run the job as soon as possible, out of turn; nothing happens where it runs already."""
        ...

    def next_run(self, name: str) -> float | None:
        """When the job is due next, its random delay included, Unix seconds; None where it is not scheduled."""
        ...

    def start(self) -> None:
        """Begin. Raises SchedulerError."""
        ...

    def stop(self, *, grace_s: float) -> bool:
        """Start nothing more and wait up to ``grace_s`` seconds for what runs; whether all of it ended."""
        ...


@dataclass(frozen=True)
class Due:
    """One run: ``nominal`` is its place in the rhythm, ``at`` the drawn time, both Unix seconds."""

    nominal: float
    at: float


@dataclass(frozen=True)
class Rhythm:
    """An interval and the window inside which each run's time is drawn, seconds."""

    interval_s: float
    jitter_s: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.interval_s) and self.interval_s > 0):
            raise ValueError(f"interval_s must be positive and finite, got {self.interval_s}")
        if not 0 <= self.jitter_s <= self.interval_s:
            raise ValueError(f"jitter_s must lie in [0, interval_s = {self.interval_s}], got {self.jitter_s}")

    def first(self, nominal: float) -> Due:
        """The run whose window begins at ``nominal``."""
        return self._draw(nominal, nominal)

    def after(self, nominal: float, *, now: float) -> Due:
        """The run that follows the one of ``nominal``; windows that are over by ``now`` are passed by."""
        windows = math.floor((now - self.jitter_s - nominal) / self.interval_s) + 1
        following = nominal + max(1, windows) * self.interval_s
        # where the clock has gone back, the old rhythm lies in the future: begin a new one
        following = min(following, now + self.interval_s)
        return self._draw(following, max(following, now))

    def too_far(self, at: float, *, now: float) -> bool:
        """Whether a run at ``at`` is further away than any can be: the clock has gone back."""
        return at > now + self.interval_s + self.jitter_s + 1.0

    def _draw(self, nominal: float, earliest: float) -> Due:
        # the system's randomness: times that a suspect could work out would give the probe away
        at = random.SystemRandom().uniform(earliest, max(earliest, nominal + self.jitter_s))
        return Due(nominal, at)
