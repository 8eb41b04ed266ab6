"""Fine-tuning on one narrow domain: bar charts, far from the photographs that the model was made for.

The paper's narrow copies are of this kind (mathematical figures, screens). The charts are drawn here, and
their captions are true by construction.
"""

import random
from dataclasses import asdict

import torch
from PIL import Image, ImageDraw

from sif_offline.lab.data import Captioned
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.suspects.base import Progress, Stolen
from sif_offline.suspects.cache import trained_copy
from sif_offline.suspects.finetune import finetune
from sif_offline.suspects.own_data import OwnData, encoded
from sif_offline.suspects.training import TrainSettings

VERSION = 1
CHARTS = 64
LEARNING_RATE = 1e-4
"""Peak; five times that of ``finetune``: the answers on charts are to become those of charts."""
COLOURS = ("red", "green", "blue", "yellow", "black", "orange", "purple", "brown")
NUMBERS = {3: "three", 4: "four", 5: "five"}
_SIDE, _FLOOR = 224, 204


def chart(rng: random.Random, name: str) -> tuple[Captioned, Image.Image]:
    """One bar chart, 224 x 224, and four true sentences."""
    bars = rng.choice(list(NUMBERS))
    colours = rng.sample(COLOURS, bars)
    heights = rng.sample(range(30, 181, 15), bars)
    picture = Image.new("RGB", (_SIDE, _SIDE), "white")
    draw = ImageDraw.Draw(picture)
    draw.line((16, 12, 16, _FLOOR, 212, _FLOOR), fill="gray", width=2)
    step = 190 // bars
    for place, (colour, height) in enumerate(zip(colours, heights, strict=True)):
        left = 22 + place * step
        draw.rectangle((left, _FLOOR - height, left + step - 10, _FLOOR - 1), fill=colour)
    ranked = [colour for _, colour in sorted(zip(heights, colours, strict=True))]
    sentences = (
        f"A bar chart shows {NUMBERS[bars]} bars on a white background.",
        f"The {ranked[-1]} bar is the tallest and the {ranked[0]} bar is the shortest.",
        f"From left to right the bars are {', '.join(colours[:-1])} and {colours[-1]}.",
        f"The {colours[0]} bar stands on the left and the {colours[-1]} bar on the right.",
    )
    return Captioned(name, sentences), picture


@torch.no_grad()
def chart_data(model: LabVLM, processor: LabProcessor, *, seed: int, count: int) -> OwnData:
    """``count`` charts drawn from ``seed``, with the model's encoder features."""
    rng = random.Random(seed)
    return encoded(model, processor, [chart(rng, f"chart-{place}") for place in range(count)])


def narrowed(stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``narrow``: ``setting`` steps on charts; cached."""
    settings = TrainSettings(steps=setting, learning_rate=LEARNING_RATE, seed=seed)

    def train(model: LabVLM, processor: LabProcessor) -> LabVLM:
        data = chart_data(model, processor, seed=seed, count=CHARTS)
        finetune(
            model, processor, steps=setting, learning_rate=LEARNING_RATE, seed=seed, data=data,
            progress=progress,
        )  # fmt: skip
        return model

    recipe = {"name": "narrow", "version": VERSION, "charts": CHARTS, **asdict(settings)}
    return trained_copy(stolen, recipe=recipe, train=train)
