"""Pictures from outside: every limit is held before a pixel is decoded, and every message names the file."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sif_offline.fingerprint.images import (
    ImageError,
    decode_image,
    from_data_url,
    read_image,
    to_data_url,
)


def encode(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size; its pixel data is one empty stream."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_png_comes_back_exactly(picture: Image.Image) -> None:
    decoded = decode_image(encode(picture), name="a.png")
    assert decoded.mode == "RGB"
    assert np.array_equal(np.asarray(decoded), np.asarray(picture))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP"])
def test_other_formats(picture: Image.Image, kind: str) -> None:
    assert decode_image(encode(picture, kind), name="a").size == (60, 40)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(picture: Image.Image, mode: str) -> None:
    if mode == "I;16":
        made = Image.fromarray(np.full((40, 60), 40_000, dtype=np.uint16))
    else:
        made = picture.convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    decoded = decode_image(encode(made, kind), name="a")
    assert (decoded.mode, decoded.size) == ("RGB", (60, 40))


def test_a_palette_with_transparency_becomes_rgb_without_a_warning(picture: Image.Image) -> None:
    data = encode(picture.convert("P"), transparency=bytes(range(256)))
    assert decode_image(data, name="a").mode == "RGB"


def test_exif_orientation_is_applied(picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 270 degrees to stand upright
    assert decode_image(encode(picture, exif=exif), name="a").size == (40, 60)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"bad\.png: not a picture"),
        (b"just some text\n" * 50, r"bad\.png: not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"bad\.png: not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"bad\.png: not a picture"),
        (png_header(30_000, 30_000), r"bad\.png: .*pixels, over the limit of 40,000,000"),
        (png_header(12_000, 8_000), r"bad\.png: .*pixels, over the limit of 40,000,000"),
        (png_header(7_000, 6_000), r"bad\.png: 7000 x 6000 pixels, over the limit of 40,000,000"),
        (png_header(0, 10), r"bad\.png: "),
        (png_header(10, 10), r"bad\.png: damaged picture"),
        (b"\x89PNG\r\n\x1a\n", r"bad\.png: "),
    ],
)
def test_bad_pictures_are_one_line_that_names_the_file(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "bad.png").write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(tmp_path / "bad.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_truncated_anywhere(picture: Image.Image, kind: str) -> None:
    data = encode(picture, kind)
    for length in range(0, len(data) * 9 // 10, max(1, len(data) // 37)):
        with pytest.raises(ImageError, match="cut"):
            decode_image(data[:length], name="cut")


def test_any_byte_changed_is_a_picture_or_an_image_error(picture: Image.Image) -> None:
    """Fuzzing the header: never another exception, never a picture over the limit."""
    data = bytearray(encode(picture))
    generator = np.random.default_rng(1)
    for position in range(8, 60):
        damaged = bytearray(data)
        damaged[position] ^= int(generator.integers(1, 256))
        with contextlib.suppress(ImageError):
            decoded = decode_image(bytes(damaged), name="fuzz", max_pixels=10_000)
            assert decoded.width * decoded.height <= 10_000


def test_limits_are_the_callers(picture: Image.Image, tmp_path: Path) -> None:
    data = encode(picture)
    with pytest.raises(ImageError, match="60 x 40 pixels, over the limit of 2,399"):
        decode_image(data, name="a", max_pixels=2399)
    assert decode_image(data, name="a", max_pixels=2400).size == (60, 40)
    with pytest.raises(ImageError, match="bytes, over the limit of 100"):
        decode_image(data, name="a", max_bytes=100)
    (tmp_path / "big.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"big\.png: over the limit of 100 bytes"):
        read_image(tmp_path / "big.png", max_bytes=100)
    with pytest.raises(ImageError, match=r"absent\.png: No such file"):
        read_image(tmp_path / "absent.png")


def test_data_urls_carry_the_very_bytes(picture: Image.Image) -> None:
    data = encode(picture)
    assert from_data_url(to_data_url(data)) == data
    assert to_data_url(b"", "image/jpeg") == "data:image/jpeg;base64,"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.png",
        "file:///etc/passwd",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64,AA*A",
        "data:image/png;base64,AAA",
        " data:image/png;base64,AAAA",
        "data:image/png;base64,ÄÄÄÄ",
        "",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ImageError):
        from_data_url(url)


def test_a_data_url_is_bounded() -> None:
    assert from_data_url(to_data_url(bytes(99)), max_bytes=99) == bytes(99)
    for size in (100, 101, 10_000):
        with pytest.raises(ImageError, match="over the limit of 99"):
            from_data_url(to_data_url(bytes(size)), max_bytes=99)
