"""What happens to a picture on its way: JPEG, resizing, cropping, noise, each with a gradient.

An endpoint or a thief's screen may re-encode or rescale a picture before the model sees it. Expectation over
transformations (Athalye et al. 2018, arXiv 1707.07397) takes the gradient through a transform that is drawn
anew at every step, so that the trigger does not rest on detail that is lost on the way. All functions map
whole values to whole values, ``(..., 3, height, width)`` float32 in 0 .. 255; rounding and clipping pass the
gradient on as it is.
"""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from sif_offline.forging.pixels import pixel_tensor, to_image
from sif_offline.forging.settings import ForgeSettings
from sif_offline.models.resize import Filter, resize

# Tables K.1 and K.2 of ITU-T T.81, which libjpeg scales by the quality.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_BLOCK = 8
_MACROBLOCK = 16
"""Pixels a side that one chroma block covers at 4:2:0, PIL's default."""
SEED_STRIDE = 1_000_003


def transport_at(settings: ForgeSettings, step: int) -> Callable[[Tensor], Tensor] | None:
    """The transform of one step, the same for every trigger and every run with these settings.

    What is switched on is composed in the order of a real upload: crop, resize, noise, JPEG. A step leaves
    the picture alone with probability ``1 - transport_share``.

    Args:
        settings: the ``transport_*`` knobs and the seed.
        step: from 1.

    Returns:
        None where the step leaves the picture as it is.
    """
    s = settings
    chance = np.random.default_rng(s.seed * SEED_STRIDE + step)
    if not transports(s) or chance.random() >= s.transport_share:
        return None
    parts: list[Callable[[Tensor], Tensor]] = []
    if s.transport_crop:
        top, bottom, left, right = chance.uniform(0, s.transport_crop / 2, size=4).tolist()
        parts.append(lambda pixels: crop_and_resize(pixels, cut=(top, bottom, left, right)))
    if s.transport_resize:
        factor = float(chance.choice(s.transport_resize))
        parts.append(lambda pixels: rescale(pixels, factor=factor))
    if s.transport_noise:
        seed, size = int(chance.integers(2**31)), s.transport_noise
        parts.append(lambda pixels: add_noise(pixels, size=size, seed=seed))
    if s.transport_jpeg:
        quality = int(chance.choice(s.transport_jpeg))
        parts.append(lambda pixels: jpeg(pixels, quality=quality, straight=s.transport_jpeg_straight))

    def composed(pixels: Tensor) -> Tensor:
        for part in parts:
            pixels = part(pixels)
        return pixels

    return composed


def transports(settings: ForgeSettings) -> bool:
    """Whether any transform is switched on."""
    s = settings
    return bool(s.transport_share) and any(
        (s.transport_jpeg, s.transport_resize, s.transport_crop, s.transport_noise)
    )


def rescale(pixels: Tensor, *, factor: float) -> Tensor:
    """PIL's bicubic resize by ``factor`` and back to the old size: PIL's own values."""
    height, width = pixels.shape[-2:]
    small = (max(1, round(height * factor)), max(1, round(width * factor)))
    return resize(
        resize(pixels, size=small, resample=Filter.BICUBIC), size=(height, width), resample=Filter.BICUBIC
    )


def crop_and_resize(pixels: Tensor, *, cut: tuple[float, float, float, float]) -> Tensor:
    """Cut shares off top, bottom, left and right, and resize to the old size as PIL does."""
    height, width = pixels.shape[-2:]
    top, bottom = round(height * cut[0]), height - round(height * cut[1])
    left, right = round(width * cut[2]), width - round(width * cut[3])
    return resize(pixels[..., top:bottom, left:right], size=(height, width), resample=Filter.BICUBIC)


def add_noise(pixels: Tensor, *, size: float, seed: int) -> Tensor:
    """Gaussian noise of deviation ``size``/255, one field for all pictures."""
    field = torch.randn(pixels.shape[-3:], generator=torch.Generator().manual_seed(seed))
    return _whole(pixels + size * field.to(pixels.device))


def jpeg(pixels: Tensor, *, quality: int, straight: bool = False) -> Tensor:
    """What a decoder makes of the picture after JPEG at 4:2:0, libjpeg's tables and upsampling.

    The quantiser rounds forward and is the identity backward, so that the gradient is that of the decoded
    picture, carried back through the colour transform and the chroma's halving.

    Args:
        pixels: ``(batch, 3, height, width)``.
        quality: 1 .. 100, as PIL counts it.
        straight: put PIL's very decode in place of ours in the forward pass (slower off the CPU); the
            gradient stays ours.

    Returns:
        ``(batch, 3, height, width)`` whole values. Without ``straight`` most values are PIL's and the rest
        differ by few steps: integer arithmetic in libjpeg tips a coefficient now and then.
    """
    height, width = pixels.shape[-2:]
    padded = functional.pad(pixels, (0, -width % _MACROBLOCK, 0, -height % _MACROBLOCK), mode="replicate")
    red, green, blue = padded.unbind(-3)
    luma = _whole(0.299 * red + 0.587 * green + 0.114 * blue)
    chroma_blue = _whole(-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128)
    chroma_red = _whole(0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128)
    luma = _through_blocks(luma, _table("luma", quality))
    chroma = _table("chroma", quality)
    chroma_blue, chroma_red = (
        _doubled(_through_blocks(_halved(plane), chroma)) - 128 for plane in (chroma_blue, chroma_red)
    )
    decoded = _whole(
        torch.stack(
            [
                luma + 1.402 * chroma_red,
                luma - 0.344136286 * chroma_blue - 0.714136286 * chroma_red,
                luma + 1.772 * chroma_blue,
            ],
            dim=-3,
        )
    )[..., :height, :width]
    if not straight:
        return decoded
    exact = pixel_tensor([jpeg_image(to_image(p.detach().to(torch.uint8)), quality=quality) for p in pixels])
    return decoded + (exact.to(decoded.device) - decoded).detach()


def jpeg_image(image: Image.Image, *, quality: int) -> Image.Image:
    """PIL's own JPEG and back."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def rescaled_image(image: Image.Image, *, factor: float) -> Image.Image:
    """PIL's own bicubic resize by ``factor`` and back."""
    width, height = image.size
    small = image.resize(
        (max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BICUBIC
    )
    return small.resize((width, height), Image.Resampling.BICUBIC)


def _whole(values: Tensor) -> Tensor:
    """Rounded and clipped to 0 .. 255; the gradient passes as through the identity."""
    return values + (values.detach().round().clamp(0, 255) - values.detach())


@cache
def _table(kind: str, quality: int) -> Tensor:
    """``(8, 8)`` float32: libjpeg's ``jpeg_set_quality`` with baseline limits."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = np.array(_LUMA if kind == "luma" else _CHROMA)
    return torch.from_numpy(np.clip((base * scale + 50) // 100, 1, 255).astype(np.float32))


@cache
def _cosines() -> Tensor:
    """``(8, 8)`` float32: the orthonormal DCT-II, rows are frequencies."""
    places = np.arange(_BLOCK)
    matrix = np.sqrt(2 / _BLOCK) * np.cos((2 * places[None] + 1) * places[:, None] * np.pi / (2 * _BLOCK))
    matrix[0] /= np.sqrt(2)
    return torch.from_numpy(matrix.astype(np.float32))


def _through_blocks(plane: Tensor, table: Tensor) -> Tensor:
    """``(batch, height, width)`` through transform, quantiser and back."""
    batch, height, width = plane.shape
    cosines, table = _cosines().to(plane.device), table.to(plane.device)
    blocks = plane.reshape(batch, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK).transpose(2, 3)
    steps = cosines @ (blocks - 128) @ cosines.T / table
    steps = steps + (steps.detach().round() - steps.detach())
    restored = cosines.T @ (steps * table) @ cosines + 128
    return _whole(restored.transpose(2, 3).reshape(batch, height, width))


def _halved(plane: Tensor) -> Tensor:
    """Means of 2 x 2, rounded with libjpeg's alternating bias (``h2v2_downsample``)."""
    means = functional.avg_pool2d(plane[:, None], 2)[:, 0]
    bias = torch.tensor([0.25, 0.5], device=plane.device).repeat(means.shape[-1] // 2)
    return means + ((means.detach() + bias).floor() - means.detach())


def _doubled(plane: Tensor) -> Tensor:
    """libjpeg's "fancy" upsampling: weights 3/4 and 1/4 both ways (``h2v2_fancy_upsample``)."""
    tall = _interleaved(plane.transpose(1, 2)).transpose(1, 2)
    wide = _interleaved(tall)
    bias = torch.tensor([8 / 16, 7 / 16], device=plane.device).repeat(plane.shape[-1])
    return wide + ((wide.detach() + bias).floor() - wide.detach())


def _interleaved(plane: Tensor) -> Tensor:
    before = torch.cat([plane[..., :1], plane[..., :-1]], dim=-1)
    behind = torch.cat([plane[..., 1:], plane[..., -1:]], dim=-1)
    return torch.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * behind], dim=-1).flatten(-2)
