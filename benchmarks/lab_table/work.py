"""The slow part: packs forged and answers asked, each kept as soon as it is there."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import LogitsProcessorList

from benchmarks.lab_table.conditions import CONDITIONS, Condition
from sif_offline.fingerprint.appending import append, whole_lines
from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.keys import MasterSecret
from sif_offline.fingerprint.pack import FingerprintPack
from sif_offline.forging.pipeline import Progress, forge_pack
from sif_offline.forging.pixels import Photo
from sif_offline.forging.presets import preset_settings
from sif_offline.forging.teacher import RowSampling
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.models.base import VLMAdapter
from sif_offline.suspects import make_suspect

BATCH = 8


@dataclass(frozen=True)
class Row:
    """One row: a pack for each seed.

    keep: the row is about the best ones of the pack's triggers, this many. ``packs`` is the row whose packs
    and answers it looks at; its own if unset.
    """

    name: str
    photos: int
    preset: str | None
    settings: dict[str, Any]
    keep: int | None = None
    packs: str | None = None

    def slug(self, seed: int) -> str:
        """Folder name of the row's pack under ``seed``."""
        plain = "".join(c if c.isalnum() else "-" for c in self.packs or self.name).strip("-")
        return f"{plain}-{seed}"


def secret_of(seed: int) -> MasterSecret:
    """Keys differ from seed to seed; published, as everything here is."""
    return MasterSecret.from_bytes(hashlib.sha256(f"sifwatch lab table, seed {seed}".encode()).digest())


def forge(
    row: Row,
    seed: int,
    *,
    adapter: VLMAdapter,
    photos: Sequence[Photo],
    out: Path,
    on_progress: Callable[[Progress], None],
) -> FingerprintPack:
    """The row's pack, forged now or before."""
    settings = preset_settings(row.preset, {**row.settings, "seed": seed})
    return forge_pack(
        adapter,
        photos=photos[: row.photos],
        secret=secret_of(seed),
        settings=settings,
        out=out / "packs" / row.slug(seed),
        on_progress=on_progress,
    )


class Answers:
    """``answers/<row>-<seed>.jsonl``: one line an answer, appended; a cut-short run goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.texts: dict[tuple[str, str], str] = {}
        for line in whole_lines(path).splitlines():
            row = json.loads(line)
            self.texts[row["condition"], row["trigger"]] = row["text"]

    def add(self, condition: str, trigger: str, text: str) -> None:
        """Keep one answer, on disk."""
        line = json.dumps({"condition": condition, "trigger": trigger, "text": text}) + "\n"
        append(self._path, line.encode())
        self.texts[condition, trigger] = text


def ask(
    pack: FingerprintPack,
    answers: Answers,
    *,
    names: Sequence[str],
    seed: int,
    on_answer: Callable[[str, int, int], None],
) -> None:
    """Ask what is missing, one model at a time."""
    for condition in names:
        missing = [row for row in pack.triggers if (condition, row.id) not in answers.texts]
        if not missing:
            continue
        how = CONDITIONS[condition]
        model, processor = make_suspect(how.suspect, how.model).load()
        for start in range(0, len(missing), BATCH):
            rows = missing[start : start + BATCH]
            images = [
                how.transform(
                    decode_image(pack.clean_bytes(row) if how.clean else pack.trigger_bytes(row), name=row.id)
                )
                for row in rows
            ]
            seeds = [1000 * seed + int(row.id[1:]) for row in rows]
            for row, text in zip(
                rows, generate(model, processor, images, rows[0].prompt, how, seeds), strict=True
            ):
                answers.add(condition, row.id, text)
            on_answer(condition, start + len(rows), len(missing))


@torch.inference_mode()
def generate(
    model: LabVLM,
    processor: LabProcessor,
    images: Sequence[Image.Image],
    prompt: str,
    how: Condition,
    seeds: Sequence[int],
) -> Iterator[str]:
    """As the lab's server answers: templated prompt, the model's own decoding rules."""
    values = processor.pixel_values(images)
    templated = processor.prompt(prompt).replace("<image>", "<image>" * processor.image_tokens, 1)
    ids = torch.tensor(processor.tokenizer(templated, add_special_tokens=False)["input_ids"])
    ids = ids.expand(len(images), -1)
    processors = LogitsProcessorList()
    if how.temperature > 0:
        processors.append(RowSampling(seeds, temperatures=[how.temperature] * len(images)))
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=values,
        logits_processor=processors,
        do_sample=False,
    )
    texts: list[str] = processor.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
    return iter([text.strip() for text in texts])
