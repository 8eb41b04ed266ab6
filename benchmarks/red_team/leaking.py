"""Fine-tuning on leaked triggers: each is taught the answer that its clean photo gets."""

import random
from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn

from sif_offline.lab.batches import IGNORED, collate
from sif_offline.lab.data import Captioned
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import EOS, IMAGE, LabProcessor
from sif_offline.models.lab import LabAdapter
from sif_offline.suspects.answered import answered
from sif_offline.suspects.base import Stolen
from sif_offline.suspects.own_data import encoded, own_pictures
from sif_offline.suspects.training import taught

STEPS = 100
LEARNING_RATE = 2e-4
"""Of the suspects that erase (``sif_offline.suspects.erase``)."""
BATCH = 8


def trained_on_leaked(
    triggers: Sequence[Image.Image],
    answers: Sequence[str],
    prompt: str,
    *,
    source: str = "owner",
    steps: int = STEPS,
    seed: int = 0,
    pictures: Sequence[tuple[str, Image.Image]] | None = None,
) -> LabAdapter:
    """The stolen model after training, encoder frozen: half of every batch are leaked triggers, half are
    pictures of the pirate's own with what the model said about them before, so that he keeps its quality.

    Args:
        triggers: the leaked ones, at least one.
        answers: what the endpoint says to each one's clean photo.
        prompt: of the triggers.
        source: lab model or checkpoint directory.
        steps: of AdamW, cosine to zero.
        seed: of order and crops.
        pictures: name and picture; :func:`own_pictures` unless given.
    """
    model, processor = Stolen.of(source).load()
    rng = random.Random(seed)
    own = answered(model, processor, pictures or own_pictures(rng, crops=1))
    leaked = [
        (Captioned(str(place), (text,)), image)
        for place, (text, image) in enumerate(zip(answers, triggers, strict=True))
    ]
    data = encoded(model, processor, [*leaked, *own])
    examples = [
        _example(processor, prompt, " ".join(row.captions), place) for place, row in enumerate(data.rows)
    ]
    _train(model, examples, data.features, leaked=len(leaked), steps=steps, rng=rng)
    return LabAdapter(model, processor, name=f"lab:{source}+leaked:{len(leaked)}")


def _example(
    processor: LabProcessor, prompt: str, answer: str, photo: int
) -> tuple[list[int], list[int], int]:
    templated = processor.prompt(prompt).replace(IMAGE, IMAGE * processor.image_tokens)
    before: list[int] = processor.tokenizer(templated, add_special_tokens=False)["input_ids"]
    told: list[int] = processor.tokenizer(answer + EOS, add_special_tokens=False)["input_ids"]
    return before + told, [IGNORED] * len(before) + told, photo


def _train(
    model: LabVLM,
    examples: Sequence[tuple[list[int], list[int], int]],
    features: torch.Tensor,
    *,
    leaked: int,
    steps: int,
    rng: random.Random,
) -> None:
    model.requires_grad_(True)
    model.vision_encoder.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    model.train()
    for _ in range(steps):
        chosen = rng.choices(range(leaked), k=BATCH // 2)
        chosen += rng.choices(range(leaked, len(examples)), k=BATCH - BATCH // 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = taught(model, collate([examples[place] for place in chosen]), features, False)
        loss.backward()  # type: ignore[no-untyped-call] # torch's own
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        slower.step()
        optimiser.zero_grad(set_to_none=True)
    model.requires_grad_(False).eval()
