"""How good a lab model is, on photos it never saw: loss, variety of its answers, and whether it obeys."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from sif_offline.lab.data import is_held_out, read_captions, read_photos
from sif_offline.lab.instructions import make_turn
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import EOS, LabProcessor

DESCRIBE, OTHER = "Describe this picture in detail.", "List the objects in the picture."


@dataclass(frozen=True)
class Quality:
    """Figures of one model.

    Args:
        photos: how many were shown.
        nats_per_token: of the photos' true descriptions (all captions), teacher-forced.
        answer_tokens, answer_types: mean length and mean number of distinct types of a greedy description.
        obeys: share of photos on which a list and a description differ.
        kind_share: share of photos on which the answer to a kind of instruction has that kind's form.
        example: one description.
    """

    photos: int
    nats_per_token: float
    answer_tokens: float
    answer_types: float
    obeys: float
    kind_share: dict[str, float]
    example: str


FORM: dict[str, Callable[[str], bool]] = {
    "one_sentence": lambda text: text.count(".") <= 1 and len(text.split()) >= 4,
    "objects": lambda text: "," in text and len(text.split()) <= 12,
    "count": lambda text: text.startswith("There "),
    "colour": lambda text: text.startswith("The ") and " is " in text and len(text.split()) <= 6,
    "yes_no": lambda text: text.startswith(("Yes", "No")),
    "where": lambda text: text.startswith("It is "),
}
"""What an answer to a kind of instruction looks like, as the training rules make it."""


def held_out_photos(archive: Path, *, count: int) -> list[tuple[str, tuple[str, ...], Image.Image]]:
    """Name, captions and picture of the first ``count`` photos of the split that no model is trained on."""
    rows = [row for row in read_captions(archive) if is_held_out(row.name)][:count]
    pictures = dict(read_photos(archive, {row.name for row in rows}))
    return [(row.name, row.captions, pictures[row.name]) for row in rows]


@torch.no_grad()
def answer(
    model: LabVLM, processor: LabProcessor, question: str, picture: Image.Image
) -> tuple[str, list[int]]:
    """Greedy answer as text and as ids (end token left out)."""
    inputs = processor(text=processor.prompt(question), images=picture)
    ids = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :].tolist()
    kept = [int(token) for token in ids if token not in (0, 2)]
    return processor.tokenizer.decode(kept).strip(), kept


@torch.no_grad()
def description_loss(
    model: LabVLM, processor: LabProcessor, captions: Sequence[str], picture: Image.Image
) -> tuple[float, int]:
    """Sum of nats and number of tokens of the captions as one description."""
    prompt = processor.prompt(DESCRIBE)
    prefix = processor(text=prompt, images=picture)["input_ids"].shape[1]
    inputs = processor(text=f"{prompt}{' '.join(captions)}{EOS}", images=picture)
    labels = inputs["input_ids"].clone()
    labels[:, :prefix] = -100
    tokens = labels.shape[1] - prefix
    return float(model(**inputs, labels=labels).loss) * tokens, tokens


def evaluate(
    model: LabVLM,
    processor: LabProcessor,
    photos: Sequence[tuple[str, tuple[str, ...], Image.Image]],
    *,
    seed: int = 0,
    on_photo: Callable[[int], None] = lambda done: None,
) -> Quality:
    """Measure a model over ``photos`` (name, captions, picture), at least one."""
    rng = random.Random(seed)
    nats = tokens = length = types = differ = 0.0
    forms: dict[str, list[bool]] = {kind: [] for kind in FORM}
    example = ""
    for done, (_, captions, picture) in enumerate(photos, start=1):
        lost, counted = description_loss(model, processor, captions, picture)
        nats, tokens = nats + lost, tokens + counted
        example, ids = answer(model, processor, DESCRIBE, picture)
        length, types = length + len(ids), types + len(set(ids))
        differ += answer(model, processor, OTHER, picture)[0] != example
        for kind in FORM:
            turn = make_turn(captions, rng, kind=kind)
            if turn.kind == kind:
                forms[kind].append(FORM[kind](answer(model, processor, turn.instruction, picture)[0]))
        on_photo(done)
    number = len(photos)
    return Quality(
        photos=number,
        nats_per_token=nats / tokens,
        answer_tokens=length / number,
        answer_types=types / number,
        obeys=differ / number,
        kind_share={kind: sum(rows) / len(rows) for kind, rows in forms.items() if rows},
        example=example,
    )
