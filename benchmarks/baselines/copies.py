"""Who answers, and through what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch

from benchmarks.lab_table.conditions import Transform, as_it_is, jpeg_75, resize_three_quarters
from sif_offline.baselines import Sent, Target, ask
from sif_offline.baselines.targeted import TargetLoss, answer_ids
from sif_offline.baselines.textual import TextPath
from sif_offline.forging.pixels import pixel_tensor
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
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
        model: the lab model; None is the owner as it is deployed.
        transform: what happens to a picture on its way.
        clean: the trigger's control is asked in its place.
        harsh: fine-tuned 100 steps at :data:`HARSH_RATE`.
    """

    suspect: str = ""
    model: str | None = None
    transform: Transform = as_it_is
    clean: bool = False
    harsh: bool = False


COPIES: Mapping[str, Copy] = MappingProxyType(
    {
        "owner": Copy(),
        "8-bit": Copy("8bit"),
        "4-bit": Copy("4bit"),
        "fine-tuned": Copy("finetune:100"),
        "fine-tuned, 1,000 steps": Copy("finetune:1000"),
        "fine-tuned, rate x 10": Copy(harsh=True),
        "JPEG 75": Copy(transform=jpeg_75),
        "resize .75": Copy(transform=resize_three_quarters),
        "no trigger": Copy(clean=True),
        "innocent-a": Copy(model="innocent-a"),
        "innocent-b": Copy(model="innocent-b"),
        "innocent-c": Copy(model="innocent-c"),
    }
)


def load_copy(name: str, *, owner: str | Path) -> LabAdapter:
    """The model that is asked.

    Args:
        name: of :data:`COPIES`.
        owner: the lab model that was stolen, or the directory of one as it is deployed.
    """
    how = COPIES[name]
    source = how.model or owner
    if not how.harsh:
        return LabAdapter(*make_suspect(how.suspect, source).load(), name=name)

    def train(model: LabVLM, processor: LabProcessor) -> LabVLM:
        finetune(model, processor, steps=100, learning_rate=HARSH_RATE)
        return model

    recipe = {"name": "finetune-harsh", "steps": 100, "learning_rate": HARSH_RATE}
    return LabAdapter(*trained_copy(Stolen.of(source), recipe=recipe, train=train).load(), name=name)


def answers_of(adapter: LabAdapter, sent: Sequence[Sent], transform: Transform) -> list[str]:
    """Greedy answers, the model's own decoding rules."""
    sent = [s if s.image is None else replace(s, image=transform(s.image)) for s in sent]
    return [
        said for start in range(0, len(sent), BATCH) for said in ask(adapter, sent[start : start + BATCH])
    ]


@torch.no_grad()
def target_nats(
    adapter: LabAdapter, sent: Sequence[Sent], targets: Sequence[Target], transform: Transform
) -> list[float]:
    """-log p of each target, a token; empty for quantised copies. Targets of pictures share a question."""
    if getattr(adapter.model, "is_quantized", False):
        return []
    images = [transform(each.image) for each in sent if each.image is not None]
    if images:
        return [float(v) for v in TargetLoss(adapter, targets)(pixel_tensor(images))]
    path = TextPath(adapter)
    said = [answer_ids(adapter, path.tokenizer, target.answer) for target in targets]
    return [float(v) for v in path.nats([path.prompt_ids(each.words) for each in sent], said)]
