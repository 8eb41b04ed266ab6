"""Pictures for a model that is asked beside the main one: decoded within bounds, encoded anew.

What leaves here is never the client's own bytes, so no metadata and no odd encoding travels on.
"""

import io
from dataclasses import dataclass

from PIL import Image, ImageFilter

from sif_offline.fingerprint.images import decode_image, to_data_url

MAX_PIXELS = 16_000_000
"""Largest picture decoded, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Reencoding:
    """One way to change a picture that keeps what people see in it.

    jpeg_quality: 1 to 95; ``None`` writes a lossless PNG.
    blur: standard deviation of a Gaussian blur, in pixels of the picture as sent; 0 for none.
    scale: the picture is shrunk to this share of its sides and back again; in (0, 1].
    """

    jpeg_quality: int | None = None
    blur: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 95:
            raise ValueError("jpeg_quality must lie in 1 to 95")
        if not 0.0 <= self.blur <= 64.0:
            raise ValueError("blur must lie in 0 to 64 pixels")
        if not 0.0 < self.scale <= 1.0:
            raise ValueError("scale must lie in (0, 1]")

    def change(self, picture: Image.Image) -> Image.Image:
        """The changed picture, RGB, of the same size; the JPEG's loss comes with :meth:`data_url`."""
        if self.scale < 1.0:
            small = (max(1, round(picture.width * self.scale)), max(1, round(picture.height * self.scale)))
            shrunk = picture.resize(small, Image.Resampling.LANCZOS)
            picture = shrunk.resize(picture.size, Image.Resampling.BICUBIC)
        return picture.filter(ImageFilter.GaussianBlur(self.blur)) if self.blur else picture

    def encoded(self, picture: Image.Image) -> bytes:
        """The changed picture as a JPEG or PNG file."""
        buffer, changed = io.BytesIO(), self.change(picture)
        if self.jpeg_quality is None:
            changed.save(buffer, "PNG", compress_level=1)
        else:
            changed.save(buffer, "JPEG", quality=self.jpeg_quality)
        return buffer.getvalue()

    def data_url(self, picture: Image.Image) -> str:
        """The changed picture as a ``data:`` URL."""
        kind = "image/png" if self.jpeg_quality is None else "image/jpeg"
        return to_data_url(self.encoded(picture), kind)


def decoded(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in ``data``, RGB. Raises ``ImageError``: not a picture, damaged, over a bound."""
    return decode_image(data, name="picture", max_pixels=max_pixels)
