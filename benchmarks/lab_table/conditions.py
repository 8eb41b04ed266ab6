"""Who answers, through what, and how: the columns of the table."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image

Transform = Callable[[Image.Image], Image.Image]


def as_it_is(image: Image.Image) -> Image.Image:
    """No change."""
    return image


def jpeg_75(image: Image.Image) -> Image.Image:
    """Through JPEG at quality 75, as PIL writes it."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    with Image.open(buffer) as opened:
        return opened.convert("RGB")


def resize_three_quarters(image: Image.Image) -> Image.Image:
    """To .75 of the size and back, bicubic."""
    small = (round(image.width * 0.75), round(image.height * 0.75))
    return image.resize(small, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Condition:
    """One column.

    Attributes:
        model: a lab model's name.
        suspect: what was done to it, as ``make_suspect`` reads it; "" for nothing.
        transform: what happens to the picture on its way.
        temperature: of the answer; 0 is greedy.
        clean: the clean photo is asked in place of the trigger, under the same key.
    """

    model: str = "owner"
    suspect: str = ""
    transform: Transform = as_it_is
    temperature: float = 0.0
    clean: bool = False


CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    {
        "owner": Condition(),
        "8-bit": Condition(suspect="8bit"),
        "4-bit": Condition(suspect="4bit"),
        "fine-tuned": Condition(suspect="finetune:100"),
        "JPEG 75": Condition(transform=jpeg_75),
        "resize .75": Condition(transform=resize_three_quarters),
        "temperature .7": Condition(temperature=0.7),
        "temperature 1": Condition(temperature=1.0),
        "clean photo": Condition(clean=True),
        "innocent-a": Condition(model="innocent-a"),
        "innocent-b": Condition(model="innocent-b"),
        "innocent-c": Condition(model="innocent-c"),
    }
)
