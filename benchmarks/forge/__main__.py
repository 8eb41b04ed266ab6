"""Seconds a trigger and judged z: our loop against a plain one after the official description.

    python -m benchmarks.forge [--photos 24] [--lever-photos 4] [--work DIR] [--json]

Same owner, photos, teachers, keys, steps, dtype, threads and selection schedule in every column; the columns
take turns on each group of photos. The first and the last one run on all photos, the others between them on
the first group, the plain ones on its first --lever-photos photos. A run that was stopped goes on where it
was. Seconds are of CPU time, which other programs on the machine change little; wall time stands beside it.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.forge.columns import BASE, COLUMNS, OURS, PUBLISHED
from benchmarks.forge.measure import Group
from benchmarks.forge.table import summary, table
from sif_offline.forging.judge import Judge
from sif_offline.forging.pixels import Photo, load_photos, prepare_photo
from sif_offline.forging.settings import ForgeSettings
from sif_offline.lab.photos import PHOTO_COUNT, demo_photos
from sif_offline.models import load_adapter
from sif_offline.models.base import VLMAdapter


def run(
    adapter: VLMAdapter,
    photos: Sequence[Photo],
    settings: ForgeSettings,
    *,
    kept: Path,
    lever_photos: int,
) -> list[dict[str, Any]]:
    """All rows, one a column and photo; those in the file ``kept`` (JSON lines) are not measured again."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    have = {(row["column"], row["photo"]) for row in rows}
    judge = Judge(adapter, settings.model_copy(update=PUBLISHED))
    size = settings.batch_size
    for start in range(0, len(photos), size):
        part = photos[start : start + size]
        wanted = [column for column in COLUMNS if start < lever_photos or column.name in (BASE, OURS)]
        missing = [column for column in wanted if (column.name, part[0].name) not in have]
        if not missing:
            continue
        group = Group(adapter, judge, part, settings, first=start)
        # a machine that slows down as it warms must not favour whoever comes first
        turn = (start // size) % 2
        for column in missing[::-1] if turn else missing:
            few = len(part) if column.name == BASE else lever_photos - start
            new = [row.to_json() for row in group.run(column, photos=few)]
            rows += new
            with kept.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in new)
            sys.stderr.write(
                f"{part[0].name} .. {part[-1].name}  {column.name}: {new[0]['cpu_seconds']:.1f} s of CPU\n"
            )
    names = {photo.name for photo in photos}
    return [row for row in rows if row["photo"] in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="lab:owner")
    parser.add_argument("--images", type=Path, help="folder of photos; the lab's own where not given")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--lever-photos", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16", help="of every column")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in every column")
    parser.add_argument("--work", type=Path, help="folder that keeps what was measured")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    adapter = load_adapter(arguments.model)
    if arguments.images:
        photos = load_photos(arguments.images, count=arguments.photos, canvas=adapter.canvas)
    else:
        photos = [
            prepare_photo(photo.image(), name=photo.id, canvas=adapter.canvas)
            for photo in demo_photos(min(arguments.photos, PHOTO_COUNT))
        ]
    settings = ForgeSettings(
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        autocast=arguments.dtype == "bf16",
    )
    setup = {
        "model": arguments.model,
        "weights": adapter.weights_sha256[:12],
        "steps": arguments.steps,
        "batch_size": arguments.batch_size,
        "dtype": arguments.dtype,
        "threads": arguments.threads,
        "judge_from": settings.judge_from,
        "judge_every": settings.judge_every,
        "judge_copies": settings.judge_copies,
    }
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).hexdigest()[:12]
        kept = work / f"forge-{digest}.jsonl"
        rows = run(adapter, photos, settings, kept=kept, lever_photos=arguments.lever_photos)
    found = summary(rows)
    if arguments.json:
        sys.stdout.write(json.dumps({"setup": setup, **found, "rows": rows}) + "\n")
    else:
        sys.stdout.write(table(setup, found))


if __name__ == "__main__":
    main()
