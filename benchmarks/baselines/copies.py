"""Who answers, and through what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image

from benchmarks.lab_table.conditions import Transform, as_it_is, jpeg_75, resize_three_quarters
from sif_offline.baselines import Target
from sif_offline.baselines.targeted import TargetLoss
from sif_offline.forging.pixels import pixel_tensor
from sif_offline.models.lab import LabAdapter
from sif_offline.suspects import make_suspect
from sif_offline.suspects.base import Stolen
from sif_offline.suspects.cache import trained_copy
from sif_offline.suspects.finetune import finetune

HARSH_RATE = 2e-4
"""Ten times the learning rate that LLaVA fine-tunes with: weights move by up to 1e-2."""
BATCH = 12


@dataclass(frozen=True)
class Copy:
    """One row.

    Args:
        suspect: as ``make_suspect`` reads it.
        model: the lab model.
        transform: what happens to the picture on its way.
        clean: the photo is asked in place of the trigger.
        harsh: fine-tuned 100 steps at :data:`HARSH_RATE`.
    """

    suspect: str = ""
    model: str = "owner"
    transform: Transform = as_it_is
    clean: bool = False
    harsh: bool = False


COPIES: Mapping[str, Copy] = MappingProxyType(
    {
        "owner": Copy(),
        "8-bit": Copy("8bit"),
        "4-bit": Copy("4bit"),
        "fine-tuned": Copy("finetune:100"),
        "fine-tuned, rate x 10": Copy(harsh=True),
        "JPEG 75": Copy(transform=jpeg_75),
        "resize .75": Copy(transform=resize_three_quarters),
        "clean photo": Copy(clean=True),
        "innocent-a": Copy(model="innocent-a"),
        "innocent-b": Copy(model="innocent-b"),
        "innocent-c": Copy(model="innocent-c"),
    }
)


def load_copy(name: str) -> tuple[Any, Any]:
    """Model and processor."""
    how = COPIES[name]
    if not how.harsh:
        return make_suspect(how.suspect, how.model).load()

    def train(model: Any, processor: Any) -> Any:
        finetune(model, processor, steps=100, learning_rate=HARSH_RATE)
        return model

    recipe = {"name": "finetune-harsh", "steps": 100, "learning_rate": HARSH_RATE}
    return trained_copy(Stolen.of(how.model), recipe=recipe, train=train).load()


@torch.inference_mode()
def answers_of(loaded: tuple[Any, Any], images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
    """Greedy answers, the model's own decoding rules."""
    model, processor = loaded
    texts: list[str] = []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        prompts = [processor.prompt(question) for question in questions[part]]
        inputs = processor(prompts, images=list(images[part]))
        output = model.generate(**inputs, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        texts += processor.tokenizer.batch_decode(output, skip_special_tokens=True)
    return [text.strip() for text in texts]


@torch.no_grad()
def target_nats(
    loaded: tuple[Any, Any], images: Sequence[Image.Image], targets: Sequence[Target]
) -> list[float]:
    """-log p of each target, a token; empty for quantised copies. Targets share a question."""
    model, processor = loaded
    if getattr(model, "is_quantized", False):
        return []
    adapter = LabAdapter(model, processor, name="copy")
    return [float(v) for v in TargetLoss(adapter, targets)(pixel_tensor(images))]
