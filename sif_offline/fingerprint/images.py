"""Pictures from outside, bounded in bytes and in pixels before a single pixel is decoded."""

import base64
import binascii
import io
import re
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from sif_offline.fingerprint.errors import SifError

MAX_BYTES = 20 * 2**20
"""Largest encoded picture read, in bytes."""
MAX_PIXELS = 40_000_000
"""Largest picture decoded, in pixels (width times height)."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Decoders offered to the bytes; Pillow's other plugins (PostScript runs a program) stay out of reach."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.ASCII | re.IGNORECASE)


class ImageError(SifError):
    """Bytes that are no picture, or a larger one than we decode; the message names the file."""


def decode_image(
    data: bytes, *, name: str, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode ``data`` to a fully loaded RGB picture, upright by its EXIF orientation (first frame only).

    Args:
        data: the encoded file.
        name: what the error message calls it.
        max_bytes: refuse more encoded bytes than this.
        max_pixels: refuse more pixels than this, judged by the header alone.

    Raises:
        ImageError: not a picture, truncated, or over a limit.
    """
    if len(data) > max_bytes:
        raise ImageError(f"{name}: {len(data):,} bytes, over the limit of {max_bytes:,}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise ImageError(f"{name}: {width} x {height} pixels, over the limit of {max_pixels:,}")
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            if "transparency" in upright.info:  # a palette with alpha loses it with a warning otherwise
                upright = upright.convert("RGBA")
            return upright.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name}: too many pixels, over the limit of {max_pixels:,}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not a picture ({', '.join(FORMATS)} are read)") from None
    except _BROKEN as error:
        raise ImageError(f"{name}: damaged picture ({error})") from None


def read_image(path: str | Path, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read and decode the picture at ``path``; never reads more than ``max_bytes + 1`` bytes of it.

    Raises:
        ImageError: the file cannot be read, or see :func:`decode_image`.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from None
    if len(data) > max_bytes:
        raise ImageError(f"{path}: over the limit of {max_bytes:,} bytes")
    return decode_image(data, name=str(path), max_bytes=max_bytes, max_pixels=max_pixels)


def to_data_url(data: bytes, media_type: str = "image/png") -> str:
    """The encoded picture as a ``data:`` URL, byte for byte."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def from_data_url(url: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The encoded picture inside ``url``; the size is bounded before the base64 is decoded.

    Raises:
        ImageError: anything but ``data:image/...;base64,...``: no other URL is ever fetched.
    """
    head = _DATA_URL.match(url)
    if head is None:
        raise ImageError(f"{url[:40]!r}: only data:image/...;base64 URLs are accepted")
    body = url[head.end() :]
    if len(body) > (max_bytes + 2) // 3 * 4:
        raise ImageError(f"{head.group()}...: over the limit of {max_bytes:,} bytes")
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(f"{head.group()}...: not valid base64") from None
    if len(data) > max_bytes:
        raise ImageError(f"{head.group()}...: over the limit of {max_bytes:,} bytes")
    return data
