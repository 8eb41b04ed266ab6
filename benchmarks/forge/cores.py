"""The same machine, both loops with all its cores: wall time of one process with threads against processes.

    python -m benchmarks.forge.cores [--cores 2] [--plain-photos 4] [--batch-size 12] [--json]

The plain loop is one process whose torch has as many threads as there are cores; ours is a process a core
with one thread each, as `sif forge --executor processes` runs it. Plain photos are taken before and after
ours, so that a machine that slows down favours neither. Starting the workers is not counted (seconds, once a
run). Other programs disturb wall time: the load average is printed beside it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.forge.columns import COLUMNS, PUBLISHED
from benchmarks.forge.measure import Group
from sif_offline.executors import Done, Event
from sif_offline.executors.processes import ProcessExecutor
from sif_offline.forging.judge import Judge
from sif_offline.forging.pixels import Photo, prepare_photo
from sif_offline.forging.settings import ForgeSettings
from sif_offline.lab.photos import demo_photos
from sif_offline.models import load_adapter


@dataclass(frozen=True)
class Searches:
    """Work of a process: a column's search over one group, with the moments of its beginning and end."""

    model: str
    settings: ForgeSettings
    column: int

    def open(
        self, device: str
    ) -> Callable[[tuple[int, list[Photo]], Callable[[Any], None]], tuple[float, float]]:
        """See :class:`~sif_offline.executors.base.Work`."""
        adapter = load_adapter(self.model, device=device)
        judge = Judge(adapter, self.settings.model_copy(update=PUBLISHED))

        def run(task: tuple[int, list[Photo]], note: Callable[[Any], None]) -> tuple[float, float]:
            first, photos = task
            group = Group(adapter, judge, photos, self.settings, first=first)
            start = time.time()
            group.search(COLUMNS[self.column], photos=len(photos))
            return start, time.time()

        return run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="lab:owner")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--plain-photos", type=int, default=4, help="half before ours, half after")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    settings = ForgeSettings(
        steps=arguments.steps, batch_size=arguments.batch_size, autocast=arguments.dtype == "bf16"
    )
    torch.set_num_threads(arguments.cores)
    adapter = load_adapter(arguments.model)
    size = arguments.batch_size
    shown = [
        prepare_photo(photo.image(), name=photo.id, canvas=adapter.canvas)
        for photo in demo_photos(max(size, arguments.plain_photos))
    ]
    judge = Judge(adapter, settings.model_copy(update=PUBLISHED))
    half = arguments.plain_photos // 2
    group = Group(adapter, judge, shown[: 2 * half], settings, first=0)

    def plain() -> float:
        start = time.time()
        group.search(COLUMNS[0], photos=half)
        return (time.time() - start) / half

    before = plain()
    spans: list[tuple[float, float]] = []

    def keep(event: Event) -> None:
        if isinstance(event, Done):
            spans.append(event.result)

    # every core a group of its own: the same photos under other keys
    tasks = [(size * number, shown[:size]) for number in range(arguments.cores)]
    ProcessExecutor(devices=("cpu",) * arguments.cores, threads=1).run(
        Searches(arguments.model, settings, len(COLUMNS) - 1), tasks, on_event=keep
    )
    ours = (max(end for _, end in spans) - min(start for start, _ in spans)) / (size * arguments.cores)
    after = plain()
    found = {
        "cores": arguments.cores,
        "dtype": arguments.dtype,
        "steps": arguments.steps,
        "batch_size": size,
        "plain_seconds": (before + after) / 2,
        "our_seconds": ours,
        "times_faster": (before + after) / 2 / ours,
        "load_average": os.getloadavg()[0],
    }
    if arguments.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    sys.stdout.write("".join(f"{name:<16} {value}\n" for name, value in found.items()))


if __name__ == "__main__":
    main()
