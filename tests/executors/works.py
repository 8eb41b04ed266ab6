"""Work that tests hand to executors; workers elsewhere import it from here."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sif_offline.fingerprint.errors import SifError


class BadTaskError(SifError):
    """What a task may raise."""


@dataclass(frozen=True)
class Squares:
    """Squares numbers, with a note on the way; words raise.

    Args:
        deaths: a folder; a worker kills itself over the task 3 while it holds fewer than ``fatal`` files.
        fatal: workers that die so.
    """

    deaths: Path | None = None
    fatal: int = 0

    def open(self, device: str) -> Callable[[Any, Callable[[Any], None]], tuple[int, str]]:
        def run(task: Any, note: Callable[[Any], None]) -> tuple[int, str]:
            if isinstance(task, str):
                raise BadTaskError(f"{task}: not a number")
            if task == 3 and self.deaths and len(list(self.deaths.iterdir())) < self.fatal:
                (self.deaths / str(os.getpid())).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            note(f"about to square {task}")
            return task * task, device

        return run


@dataclass(frozen=True)
class Sleepers:
    """Leaves its process id in a folder and sleeps."""

    folder: Path

    def open(self, device: str) -> Callable[[Any, Callable[[Any], None]], None]:
        (self.folder / str(os.getpid())).touch()

        def run(task: Any, note: Callable[[Any], None]) -> None:
            time.sleep(600)

        return run
