"""Photos in, triggers out: always 8-bit RGB pictures of the adapter's canvas."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.images import decode_image, read_image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})


class PhotoFolderError(SifError):
    """A folder without enough photos."""


@dataclass(frozen=True)
class Photo:
    """A photo cut to the canvas: the file it came from, and the bytes of the clean control."""

    name: str
    png: bytes

    @property
    def sha256(self) -> str:
        """Of the PNG, hex."""
        return hashlib.sha256(self.png).hexdigest()

    def image(self) -> Image.Image:
        """RGB, canvas-sized."""
        return decode_image(self.png, name=self.name)


def load_photos(folder: Path, *, count: int | None, canvas: tuple[int, int]) -> list[Photo]:
    """The first ``count`` pictures of a folder by file name (None: all), centre-cropped and resized (Lanczos)
    to the canvas.

    A file counts as a picture by its suffix; other files are passed over. A picture that already has the
    canvas's size keeps its pixels.

    Raises:
        PhotoFolderError: no such folder, or fewer pictures than ``count``.
        ImageError: a picture that cannot be decoded, by name.
    """
    paths = photo_paths(folder, count=count or 1)
    return [prepare_photo(read_image(path), name=path.name, canvas=canvas) for path in paths[:count]]


def photo_paths(folder: Path, *, count: int = 1) -> list[Path]:
    """The pictures of a folder by file name; a file counts as one by its suffix.

    Raises:
        PhotoFolderError: no such folder, or fewer pictures than ``count``.
    """
    if not folder.is_dir():
        raise PhotoFolderError(f"{folder}: not a folder of photos")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(paths) < count:
        raise PhotoFolderError(f"{folder}: {len(paths)} photos, {count} are needed")
    return paths


def prepare_photo(image: Image.Image, *, name: str, canvas: tuple[int, int]) -> Photo:
    """Centre-crop and resize one RGB picture to ``canvas`` = (height, width)."""
    height, width = canvas
    fitted = ImageOps.fit(image.convert("RGB"), (width, height), method=Image.Resampling.LANCZOS)
    return Photo(name=name, png=png_bytes(fitted))


def png_bytes(image: Image.Image) -> bytes:
    """The picture as PNG, lossless."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def pixel_tensor(images: Sequence[Image.Image]) -> Tensor:
    """RGB pictures of one size to ``(batch, 3, height, width)`` float32 in 0 .. 255."""
    stacked = np.stack([np.asarray(image.convert("RGB"), dtype=np.uint8) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous().float()


def to_image(pixels: Tensor) -> Image.Image:
    """``(3, height, width)`` uint8 to a picture, value for value."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())
