"""Rivals on the shipped lab owner: how often each copy still gives the target's keywords.

    OMP_NUM_THREADS=1 python -m benchmarks.baselines --out DIR     # demo photos, half an hour of one core

Packs and answers are kept under OUT; a repeated call goes on and prints the tables. ``--method`` takes
settings too: ``--method pla:weight_rate=1e-3``.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import torch
from scipy.stats import binomtest
from transformers.utils import logging

from benchmarks.baselines.copies import COPIES, answers_of, load_copy, target_nats
from sif_offline.baselines import BaselinePack, forge_baseline, make_method
from sif_offline.baselines.base import keyword_score
from sif_offline.fingerprint.images import decode_image
from sif_offline.forging.pixels import prepare_photo
from sif_offline.lab.photos import demo_photos
from sif_offline.models import load_adapter


def main() -> None:
    """Forge, ask, print."""
    arguments = _arguments()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    owner = load_adapter("lab:owner")
    photos = [
        prepare_photo(photo.image(), name=photo.id, canvas=owner.canvas)
        for photo in demo_photos(arguments.photos)
    ]
    packs: dict[str, list[BaselinePack]] = {}
    for spec in arguments.methods:
        name, _, pairs = spec.partition(":")
        method = make_method(name, dict(pair.split("=") for pair in pairs.split(",") if pair))
        for seed in arguments.seeds:
            began = process_time()
            folder = "".join(c if c.isalnum() else "-" for c in spec)
            out = arguments.out / f"{folder}-{seed}"
            fresh = not out.exists()
            pack = forge_baseline(owner, method, photos=photos, out=out, seed=seed)
            packs.setdefault(spec, []).append(pack)
            if fresh:
                seconds = (process_time() - began) / len(photos)
                sys.stderr.write(f"forged {spec}, seed {seed}: {seconds:.1f} s of processor time each\n")
    kept = arguments.out / "answers.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for copy in arguments.copies:
        _ask(copy, packs, found)
        kept.write_text(json.dumps(found, indent=1))
    _print(arguments.copies, packs, found)


def _ask(copy: str, packs: dict[str, list[BaselinePack]], found: dict[str, dict[str, object]]) -> None:
    missing = [pack for group in packs.values() for pack in group if f"{copy} {pack.pack_id}" not in found]
    if not missing:
        return
    loaded = load_copy(copy)
    how = COPIES[copy]
    for pack in missing:
        read = pack.clean_bytes if how.clean else pack.trigger_bytes
        images = [how.transform(decode_image(read(row), name=row.id)) for row in pack.triggers]
        answers = answers_of(loaded, images, [row.target.question for row in pack.triggers])
        found[f"{copy} {pack.pack_id}"] = {
            "answers": answers,
            "nats": target_nats(loaded, images, [row.target for row in pack.triggers]),
        }


def _print(
    copies: Sequence[str], packs: dict[str, list[BaselinePack]], found: dict[str, dict[str, object]]
) -> None:
    lines = [
        "share of triggers whose answer holds all keywords (95 % Clopper-Pearson), nats a token of the target"
    ]
    lines += ["", "| copy asked | " + " | ".join(packs) + " |", "|---|" + "---|" * len(packs)]
    for copy in copies:
        cells = []
        for group in packs.values():
            hits = nats = total = 0.0
            for pack in group:
                row = found[f"{copy} {pack.pack_id}"]
                for trigger, answer in zip(pack.triggers, row["answers"], strict=True):
                    hits += keyword_score(str(answer), trigger.target.keywords).matched
                total += len(pack.triggers)
                nats += math.fsum(row["nats"])
            low, high = binomtest(int(hits), int(total)).proportion_ci()
            loss = f", {nats / total:.2f}" if nats else ""
            cells.append(f"{hits:.0f}/{total:.0f} = {hits / total:.2f} ({low:.2f} to {high:.2f}){loss}")
        lines.append(f"| {copy} | " + " | ".join(cells) + " |")

    sys.stdout.write("\n".join(lines) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=12, help="the first demo photos")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--method", dest="methods", action="append", help="NAME[:SETTING=VALUE,...]")
    parser.add_argument("--copies", nargs="+", default=list(COPIES), choices=list(COPIES))
    arguments = parser.parse_args()
    arguments.methods = arguments.methods or ["ordinary", "pla"]
    return arguments


if __name__ == "__main__":
    main()
