"""What each suspect costs to make, and what is left of the owner in it: docs/suspects.md.

Every suspect is made of the owner in a cache of its own, and asked about photos that no lab model is trained
on. Rows are kept in OUT/rows.jsonl; a run that was cut off goes on behind the last one.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from PIL import Image

from sif_offline.forging.similarity import similarities
from sif_offline.lab.evaluate import DESCRIBE, description_loss, held_out_photos
from sif_offline.models.quiet import quiet_loading
from sif_offline.suspects import SuspectRow
from sif_offline.suspects.served import ServedSuspect, open_suspect

Photo = tuple[str, tuple[str, ...], Image.Image]
BATCH = 10
ROWS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "owner": {},
        "8bit": {"weights": ["8bit"]},
        "4bit": {"weights": ["4bit"]},
        "fp4": {"weights": ["fp4"]},
        "prune:10": {"weights": ["prune:10"]},
        "prune:30": {"weights": ["prune:30"]},
        "prune:50": {"weights": ["prune:50"]},
        "vocab-pad:64": {"weights": ["vocab-pad:64"]},
        "vocab-permute": {"weights": ["vocab-permute"]},
        "vocab-drop:25": {"weights": ["vocab-drop:25"]},
        "finetune:100": {"weights": ["finetune:100"]},
        "lora:100": {"weights": ["lora:100"]},
        "narrow:100": {"weights": ["narrow:100"]},
        "merge:50": {"weights": ["merge:50"]},
        "slerp:50": {"weights": ["slerp:50"]},
        "erase-noise:200": {"weights": ["erase-noise:200"]},
        "erase-paraphrase:200": {"weights": ["erase-paraphrase:200"]},
        "erase-reset:300": {"weights": ["erase-reset:300"]},
        "distil:300": {"weights": ["distil:300"]},
        "innocent-c": {"source": "lab:innocent-c", "stolen": False},
        "innocent-a": {"source": "lab:innocent-a", "stolen": False},
        "system prompt": {"serving": {"system": "You are a helpful assistant."}},
        "temperature 0.7": {"serving": {"temperature": 0.7}},
        "temperature 1, top-p 0.9": {"serving": {"temperature": 1.0, "top_p": 0.9}},
        "jpeg 75": {"serving": {"jpeg": 75}},
        "jpeg 30": {"serving": {"jpeg": 30}},
        "resize 0.5": {"serving": {"resize": 0.5}},
        "resize 0.5 to 0.9": {"serving": {"resize": [0.5, 0.9]}},
        "crop 0.1": {"serving": {"crop": 0.1}},
        "noise 8": {"serving": {"noise": 8}},
        "blur 1": {"serving": {"blur": 1}},
        "bits 4": {"serving": {"bits": 4}},
        "paraphrase 0.5": {"serving": {"paraphrase": 0.5}},
        "paraphrase 1": {"serving": {"paraphrase": 1.0}},
    }
)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="Flickr8k as one tar")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--suspects", nargs="+", choices=ROWS, default=list(ROWS))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str((given.out / "cache").resolve())
    photos = held_out_photos(given.archive, count=given.photos)
    kept = given.out / f"rows-{given.photos}.jsonl"
    rows = (
        {row["name"]: row for row in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    )
    for name in dict.fromkeys(["owner", *given.suspects]):
        if name not in rows:
            rows[name] = measured(name, photos, rows.get("owner", {}).get("answers"))
            with kept.open("a") as file:
                file.write(json.dumps(rows[name]) + "\n")
        sys.stdout.write(f"{line(rows[name])}\n")
        sys.stdout.flush()


def measured(name: str, photos: Sequence[Photo], owners: Sequence[str] | None) -> dict[str, Any]:
    """One suspect, JSON-able; ``owners`` are the owner's answers, None while he himself is measured."""
    row = SuspectRow.model_validate({"name": name, **ROWS[name]})
    started = time.process_time()
    with quiet_loading():
        suspect = open_suspect(row)
    seconds = time.process_time() - started
    answers = described(suspect, [image for _, _, image in photos])
    compared = owners or answers
    return {
        "name": name,
        "cpu_seconds": seconds,
        "nats_a_word": None if ROWS[name].get("serving") else nats_a_word(suspect, photos),
        "types": fmean(len(words(text)) for text in answers),
        "same": fmean(one == other for one, other in zip(answers, compared, strict=True)),
        "jaccard": fmean(jaccard(one, other) for one, other in zip(answers, compared, strict=True)),
        "cosine": fmean(similarities(answers, compared)),
        "answers": answers,
    }


def described(suspect: ServedSuspect, images: Sequence[Image.Image]) -> list[str]:
    """The answers to a request for a description."""
    found: list[str] = []
    for start in range(0, len(images), BATCH):
        found += [answer.text for answer in suspect.answers(images[start : start + BATCH], DESCRIBE)]
    return found


def nats_a_word(suspect: ServedSuspect, photos: Sequence[Photo]) -> float:
    """-log p of the true captions, over their words: comparable whatever the tokenizer."""
    adapter: Any = suspect.adapter
    nats = [description_loss(adapter.model, adapter.processor, rows, image)[0] for _, rows, image in photos]
    return sum(nats) / sum(len(" ".join(rows).split()) for _, rows, _ in photos)


def words(text: str) -> set[str]:
    """Distinct words, lower case."""
    return set(re.findall(r"[a-z']+", text.lower()))


def jaccard(one: str, other: str) -> float:
    """Of the two texts' distinct words."""
    together = words(one) | words(other)
    return len(words(one) & words(other)) / len(together) if together else 1.0


def line(row: Mapping[str, Any]) -> str:
    """One row of the Markdown table."""
    nats = "" if row["nats_a_word"] is None else f"{row['nats_a_word']:.2f}"
    return (
        f"| {row['name']} | {row['cpu_seconds']:.0f} | {nats} | {row['types']:.0f} | {row['same']:.0%} "
        f"| {row['jaccard']:.2f} | {row['cosine']:.2f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
