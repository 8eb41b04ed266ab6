"""The lab table: triggers of the shipped owner against every suspect, over seeds and ablations.

    python -m benchmarks.lab_table --archive flickr8k.tar --out lab-table     # hours; may be killed
    python -m benchmarks.lab_table --images FOLDER --out lab-table             # photos of your own

Packs and answers are kept under OUT as they are made; a repeated call goes on and prints the table.
"""

import argparse
import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.progress import Progress
from transformers.utils import logging

from benchmarks.lab_table import figures
from benchmarks.lab_table.conditions import CONDITIONS
from benchmarks.lab_table.work import Answers, Row, ask, forge
from sif_offline.forging.pixels import load_photos
from sif_offline.lab.data import is_held_out, read_captions
from sif_offline.models import load_adapter

ROWS = Path(__file__).with_name("rows.yaml")


def main() -> None:
    """Forge, ask, print."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    logging.disable_progress_bar()
    images = arguments.images or _held_out(arguments.archive, arguments.out / "photos", arguments.photos)
    adapter = load_adapter("lab:owner")
    rows = _rows(arguments)
    photos = load_photos(images, count=max(row.photos for row in rows), canvas=adapter.canvas)
    done: dict[str, list[tuple[int, object, Answers]]] = {row.name: [] for row in rows}
    with Progress(console=Console(stderr=True), transient=True) as bars:
        whole = bars.add_task("packs", total=len(rows) * len(arguments.seeds))
        task = bars.add_task("")
        for seed in arguments.seeds:
            for row in rows:
                bars.update(
                    task, description=f"forging {row.name}, seed {seed}", completed=0, total=row.photos
                )
                pack = forge(
                    row,
                    seed,
                    adapter=adapter,
                    photos=photos,
                    out=arguments.out,
                    on_progress=lambda p: bars.update(task, completed=p.finished),
                )
                answers = Answers(arguments.out / "answers" / f"{row.slug(seed)}.jsonl")
                ask(
                    pack,
                    answers,
                    names=arguments.conditions,
                    seed=seed,
                    on_answer=lambda name, n, of: bars.update(
                        task, description=f"asking {name}", completed=n, total=of
                    ),
                )
                done[row.name].append((seed, pack, answers))
                bars.advance(whole)
    found = []
    for row in rows:
        by_seed = [
            figures.scores(pack, answers, seed=seed, keep=row.keep) for seed, pack, answers in done[row.name]
        ]
        found.append((row, figures.summary(by_seed)))
    natural = {
        row.name: figures.naturalness([(pack, answers) for _, pack, answers in done[row.name]])
        for row in rows
        if row.keep is None and {"owner", "clean photo"} <= set(arguments.conditions)
    }
    if arguments.json:
        _say(json.dumps({"rows": {row.name: cells for row, cells in found}, "naturalness": natural}))
        return
    _say(figures.table(found))
    for name, cells in natural.items():
        _say(
            f"\n{name}: perplexity {cells['perplexity_trigger']:.1f} "
            f"(clean {cells['perplexity_clean']:.1f}), similarity to the clean answer "
            f"{cells['similarity']:.2f}, PSNR {cells['psnr']:.1f} dB, SSIM {cells['ssim']:.3f}"
        )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _rows(arguments: argparse.Namespace) -> list[Row]:
    sizes = {"main": arguments.photos, "ablation": arguments.ablation_photos}
    rows = [
        Row(**{**entry, "photos": sizes[entry["photos"]]})
        for entry in yaml.safe_load(ROWS.read_text("utf-8"))
    ]
    chosen = [row for row in rows if not arguments.rows or row.name in arguments.rows]
    if not chosen:
        sys.exit(f"--rows: none of {', '.join(row.name for row in rows)}")
    return chosen


def _held_out(archive: Path, folder: Path, count: int) -> Path:
    """The first ``count`` photos of the archive that no lab model was trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [row.name for row in read_captions(archive) if is_held_out(row.name)][:count]
    with tarfile.open(archive) as tar:
        for name in names:
            member = tar.extractfile(f"photos/{name}")
            if member is None:
                sys.exit(f"{archive}: photos/{name} is missing")
            (folder / name).write_bytes(member.read())
    return folder


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _conditions(text: str) -> list[str]:
    names = _names(text)
    unknown = sorted(set(names) - CONDITIONS.keys())
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(CONDITIONS)}")
    return names


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lab_table", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, help="folder of photos")
    source.add_argument("--archive", type=Path, help="Flickr8k as one tar; held-out photos are taken from it")
    parser.add_argument("--out", type=Path, required=True, help="folder for packs and answers")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--ablation-photos", type=int, default=12)
    parser.add_argument("--seeds", type=_numbers, default=[0, 1, 2])
    parser.add_argument("--rows", type=_names, default=[], help="names of rows.yaml, comma-separated")
    parser.add_argument("--conditions", type=_conditions, default=list(CONDITIONS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
