"""Photos of odd sizes for the contract: square, wide, tall, tiny."""

from collections.abc import Sequence

import skimage.data
import sklearn.datasets
from PIL import Image

SIZES: Sequence[tuple[str, tuple[int, int]]] = (
    ("astronaut", (512, 512)),
    ("coffee", (600, 400)),
    ("chelsea", (451, 300)),
    ("china", (640, 427)),
    ("flower", (301, 427)),
    ("chelsea", (37, 53)),
    ("coffee", (331, 64)),
    ("china", (71, 300)),
)
"""(photo, (width, height)); a size other than the photo's own is cut from its upper left corner."""


def photo(name: str, size: tuple[int, int] | None = None) -> Image.Image:
    """A photo of scikit-image or scikit-learn, RGB, cut to ``size`` = (width, height)."""
    if name in ("china", "flower"):
        values = sklearn.datasets.load_sample_image(f"{name}.jpg")
    else:
        values = getattr(skimage.data, name)()
    picture = Image.fromarray(values)
    return picture.crop((0, 0, *size)) if size else picture


def odd_photos() -> list[Image.Image]:
    """One picture for each of :data:`SIZES`."""
    return [photo(name, size) for name, size in SIZES]
