"""Rivals on the shipped lab owner: how often each copy still gives the target's keywords.

    OMP_NUM_THREADS=1 python -m benchmarks.baselines --out DIR     # demo photos, an hour of one core

Packs and answers are kept under OUT; a repeated call goes on and prints the tables. ``--method`` takes
settings too: ``--method pla:weight_rate=1e-3``.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from time import process_time
from typing import Any

import torch
from scipy.stats import binomtest
from scipy.stats import t as student
from transformers.utils import logging

from benchmarks.baselines.copies import COPIES, answers_of, load_copy, target_nats
from benchmarks.baselines.specificity import specificity
from sif_offline.baselines import (
    BaselinePack,
    Sent,
    forge_baseline,
    make_method,
    method_names,
    write_deployed,
)
from sif_offline.baselines.base import keyword_score
from sif_offline.forging.pixels import Photo, prepare_photo
from sif_offline.lab.photos import demo_photos
from sif_offline.models import load_adapter
from sif_offline.models.base import VLMAdapter

Packs = Mapping[str, Sequence[BaselinePack]]
Found = dict[str, Any]


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
    packs = {
        spec: [_forged(spec, seed, owner, photos, arguments) for seed in arguments.seeds]
        for spec in arguments.methods
    }
    kept = arguments.out / "answers.json"
    found: Found = json.loads(kept.read_text()) if kept.exists() else {}
    for copy in arguments.copies:
        _ask(copy, packs, found, arguments.out)
        kept.write_text(json.dumps(found, indent=1))
    lines = _shares(arguments.copies, packs, found)
    lines += _differences(arguments.copies, packs, found)
    for spec, group in packs.items():
        if group[0].method == "instruction":
            lines += ["", f"{spec}: {specificity(owner, group)}"]
    sys.stdout.write("\n".join(lines) + "\n")


def _forged(
    spec: str, seed: int, owner: VLMAdapter, photos: Sequence[Photo], arguments: argparse.Namespace
) -> BaselinePack:
    name, _, pairs = spec.partition(":")
    method = make_method(name, dict(pair.split("=") for pair in pairs.split(",") if pair))
    folder = arguments.out / f"{''.join(c if c.isalnum() else '-' for c in spec)}-{seed}"
    fresh, began = not folder.exists(), process_time()
    count = arguments.prompts if method.kind == "text" else None
    pack = forge_baseline(owner, method, photos=photos, count=count, out=folder, seed=seed)
    if method.kind == "training" and not _deployed(folder).exists():
        write_deployed(owner, pack, _deployed(folder))
    if fresh:
        seconds = (process_time() - began) / len(pack.triggers)
        sys.stderr.write(f"forged {spec}, seed {seed}: {seconds:.1f} s of processor time each\n")
    return pack


def _deployed(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-deployed")


def _ask(copy: str, packs: Packs, found: Found, out: Path) -> None:
    how, loaded = COPIES[copy], {}
    for spec, group in packs.items():
        for pack in group:
            if f"{copy} {pack.pack_id}" in found:
                continue
            owner: str | Path = "owner"
            if pack.weights is not None:
                (folder,) = (f for f in out.glob(f"{pack.method}*") if _is_of(f, pack))
                owner = _deployed(folder)
            if owner not in loaded:
                loaded[owner] = load_copy(copy, owner=owner)
            put = Sent.control if how.clean else Sent.trigger
            sent = [put(pack, row) for row in pack.triggers]
            targets = [row.target for row in pack.triggers]
            found[f"{copy} {pack.pack_id}"] = {
                "answers": answers_of(loaded[owner], sent, how.transform),
                "nats": target_nats(loaded[owner], sent, targets, how.transform),
            }
            sys.stderr.write(f"asked {copy}: {spec}\n")


def _is_of(folder: Path, pack: BaselinePack) -> bool:
    main = folder / "baseline.json"
    return main.is_file() and json.loads(main.read_text())["pack_id"] == pack.pack_id


def _shares(copies: Sequence[str], packs: Packs, found: Found) -> list[str]:
    lines = [
        "share of triggers whose answer holds all keywords (95 % Clopper-Pearson), nats a token of the target"
    ]
    lines += ["", "| copy asked | " + " | ".join(packs) + " |", "|---|" + "---|" * len(packs)]
    for copy in copies:
        cells = []
        for group in packs.values():
            hits = sum(sum(_matches(copy, pack, found)) for pack in group)
            total = sum(len(pack.triggers) for pack in group)
            nats = [value for pack in group for value in found[f"{copy} {pack.pack_id}"]["nats"]]
            low, high = binomtest(hits, total).proportion_ci()
            loss = f", {fmean(nats):.2f}" if nats else ""
            cells.append(f"{hits}/{total} = {hits / total:.2f} ({low:.2f} to {high:.2f}){loss}")
        lines.append(f"| {copy} | " + " | ".join(cells) + " |")
    return lines


def _matches(copy: str, pack: BaselinePack, found: Found) -> list[bool]:
    answers = found[f"{copy} {pack.pack_id}"]["answers"]
    return [
        keyword_score(str(answer), trigger.target.keywords).matched
        for trigger, answer in zip(pack.triggers, answers, strict=True)
    ]


def _differences(copies: Sequence[str], packs: Packs, found: Found) -> list[str]:
    """Of the later picture attacks to the first, photo by photo: nats a token, and matches won and lost."""
    first, *others = [spec for spec, group in packs.items() if group[0].method_kind == "image"] or [""]
    if not others:
        return []
    lines = ["", f"against {first}, photo by photo: nats a token saved (95 % Student), matches won : lost"]
    lines += ["", "| copy asked | " + " | ".join(others) + " |", "|---|" + "---|" * len(others)]
    for copy in copies:
        cells = []
        for other in others:
            saved: list[float] = []
            won = lost = 0
            for mine, theirs in zip(packs[other], packs[first], strict=True):
                pairs = zip(_matches(copy, mine, found), _matches(copy, theirs, found), strict=True)
                gained = [int(a) - int(b) for a, b in pairs]
                won, lost = won + gained.count(1), lost + gained.count(-1)
                a, b = (found[f"{copy} {pack.pack_id}"]["nats"] for pack in (theirs, mine))
                saved += [x - y for x, y in zip(a, b, strict=True)]
            cells.append(f"{_interval(saved)}{won} : {lost}")
        lines.append(f"| {copy} | " + " | ".join(cells) + " |")
    return lines


def _interval(values: Sequence[float]) -> str:
    if len(values) < 2:
        return ""
    half = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):+.2f} ({fmean(values) - half:+.2f} to {fmean(values) + half:+.2f}), "


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=12, help="the first demo photos")
    parser.add_argument("--prompts", type=int, help="of methods that make prompts; all their targets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--method", dest="methods", action="append", help="NAME[:SETTING=VALUE,...]")
    parser.add_argument("--copies", nargs="+", default=list(COPIES), choices=list(COPIES))
    arguments = parser.parse_args()
    first = "ordinary"
    arguments.methods = arguments.methods or [first, *(name for name in method_names() if name != first)]
    return arguments


if __name__ == "__main__":
    main()
