"""Pictures as a provider takes them."""

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.images import decode_image

SMALLEST_SIDE = 16  # pixels
_STEP = 0.9  # of the side, until the bytes fit


class OversizeError(SifError):
    """A picture beyond a provider's limits that may not be, or cannot be, made smaller."""


@dataclass(frozen=True)
class ImageLimits:
    """What a provider takes: bytes and pixels of the longer side, None for no limit. ``resize``: make larger
    pictures smaller instead of leaving them out.
    """

    max_bytes: int | None = None
    max_side: int | None = None
    resize: bool = False

    @property
    def leaves_out(self) -> bool:
        """Whether any picture can be left out for its size."""
        return not self.resize and not (self.max_bytes is None and self.max_side is None)

    def fits(self, image: bytes) -> bool:
        """Whether a picture (PNG) may be sent as it is."""
        too_heavy = self.max_bytes is not None and len(image) > self.max_bytes
        return not too_heavy and (self.max_side is None or max(_size(image)) <= self.max_side)

    def fitted(self, image: bytes) -> bytes:
        """The picture itself, or a smaller one where ``resize`` allows it. Raises OversizeError."""
        if self.fits(image):
            return image
        if not self.resize:
            width, height = _size(image)
            raise OversizeError(f"{width} x {height} pixels, {len(image):,} bytes: over the target's limits")
        picture = decode_image(image, name="trigger")
        side = min(max(picture.size), self.max_side or max(picture.size))
        while side >= SMALLEST_SIDE:
            smaller = _png(picture, side=side)
            if self.fits(smaller):
                return smaller
            side = int(side * _STEP)
        raise OversizeError(f"no picture of {SMALLEST_SIDE} pixels or more is within the target's limits")


def digest(image: bytes) -> str:
    """Hex sha256 of a picture's bytes, as packs and requests name it."""
    return hashlib.sha256(image).hexdigest()


def _size(image: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(image), formats=("PNG",)) as opened:
        return opened.size


def _png(picture: Image.Image, *, side: int) -> bytes:
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    data = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(data, "PNG")
    return data.getvalue()
