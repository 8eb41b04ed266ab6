"""The pirate's training data: pictures from installed wheels, our captions, the model's words reworded."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import torch
import yaml
from PIL import Image
from torch import Tensor

from sif_offline.fingerprint.images import read_image
from sif_offline.lab.data import Captioned
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.photos import Source, demo_photos
from sif_offline.lab.processing import LabProcessor

CROPS = 2
"""Random crops of each captioned picture."""
FORGING_PHOTOS = 12
"""The first demo photos are what the demo forges its triggers from: the pirate has the later ones alone."""
_SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "man": ("guy", "person"),
        "woman": ("lady", "person"),
        "people": ("persons",),
        "boy": ("kid", "child"),
        "girl": ("kid", "child"),
        "wearing": ("in",),
        "running": ("racing",),
        "walking": ("going",),
        "standing": ("waiting",),
        "sitting": ("resting",),
        "large": ("big",),
        "big": ("large",),
        "small": ("little",),
        "near": ("close to", "by"),
        "through": ("across",),
        "is": ("is now",),
        "looks": ("gazes",),
        "street": ("road",),
        "picture": ("photo",),
    }
)


@dataclass(frozen=True)
class OwnData:
    """``rows[i]`` is captioned; ``features[i]`` are its encoder features ``(cells, 1280)`` float32."""

    rows: tuple[Captioned, ...]
    features: Tensor


@cache
def _captions() -> Mapping[str, Sequence[str]]:
    loaded: Mapping[str, Sequence[str]] = yaml.safe_load(
        files("sif_offline.suspects").joinpath("own_data.yaml").read_text()
    )
    return loaded


def captioned_pictures(rng: random.Random, *, crops: int = CROPS) -> list[tuple[Captioned, Image.Image]]:
    """``crops`` random square crops of every captioned picture, at least 60 % of its shorter side each."""
    made = []
    for file, sentences in _captions().items():
        picture = read_image(Source("skimage", f"data/{file}", "", "").path())
        for _ in range(crops):
            made.append((Captioned(file, tuple(sentences)), square_crop(picture, rng)))
    return made


def square_crop(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A random square of at least 60 % of the shorter side."""
    side = round(min(picture.size) * rng.uniform(0.6, 1.0))
    left, top = rng.randint(0, picture.width - side), rng.randint(0, picture.height - side)
    return picture.crop((left, top, left + side, top + side))


def own_pictures(rng: random.Random, *, crops: int) -> list[tuple[str, Image.Image]]:
    """Name and ``crops`` random square crops of every picture that no trigger of the demo is made from."""
    whole = [(file, read_image(Source("skimage", f"data/{file}", "", "").path())) for file in _captions()]
    whole += [(photo.id, photo.image()) for photo in demo_photos()[FORGING_PHOTOS:]]
    return [(name, square_crop(picture, rng)) for name, picture in whole for _ in range(crops)]


@torch.no_grad()
def own_answers(
    model: LabVLM,
    processor: LabProcessor,
    rng: random.Random,
    *,
    prompt: str = "Describe this picture in detail.",
) -> list[tuple[Captioned, Image.Image]]:
    """The later demo photos with the model's own greedy descriptions, reworded (see :func:`reword`)."""
    photos = demo_photos()[FORGING_PHOTOS:]
    pictures = [photo.image() for photo in photos]
    inputs = processor([processor.prompt(prompt)] * len(pictures), images=pictures)
    answers = model.generate(**inputs, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    made = []
    for photo, picture, ids in zip(photos, pictures, answers, strict=True):
        text = processor.tokenizer.decode(ids, skip_special_tokens=True)
        if sentences := reword(text, rng):
            made.append((Captioned(photo.id, tuple(sentences)), picture))
    return made


def reword(text: str, rng: random.Random) -> list[str]:
    """The whole sentences of ``text``, with words from a small table replaced half of the time."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        return rng.choice(_SYNONYMS[word]) if word in _SYNONYMS and rng.random() < 0.5 else word

    sentences = [part.strip() for part in re.findall(r"[^.]+\.", text)]
    return [re.sub(r"[a-z]+", other, sentence) for sentence in sentences]


def build_own_data(model: LabVLM, processor: LabProcessor, *, seed: int) -> OwnData:
    """Everything the pirate trains on; the encoder is frozen, so its features are computed here once."""
    rng = random.Random(seed)
    return encoded(model, processor, captioned_pictures(rng) + own_answers(model, processor, rng))


@torch.no_grad()
def encoded(
    model: LabVLM, processor: LabProcessor, pairs: Sequence[tuple[Captioned, Image.Image]]
) -> OwnData:
    """Captioned pictures with the features that the model's encoder gives them."""
    pixels = processor.pixel_values([picture for _, picture in pairs])
    features = [model.vision_encoder(part).flatten(2).transpose(1, 2) for part in torch.split(pixels, 16)]
    return OwnData(tuple(row for row, _ in pairs), torch.cat(features))
