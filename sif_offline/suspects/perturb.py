"""Pictures on their way into a thief's model: what an endpoint does to an upload, with Pillow as it would.

:mod:`sif_offline.forging.transport` holds the same transforms with a gradient, for the forge.
"""

import io
import random

import numpy as np
from PIL import Image, ImageFilter

from sif_offline.suspects.serving import Serving

_BICUBIC = Image.Resampling.BICUBIC


def perturbed(image: Image.Image, serving: Serving, *, seed: int) -> Image.Image:
    """The RGB picture that the model gets, of the size that the client sent.

    Args:
        image: RGB.
        serving: what is done, in the order that its docstring gives.
        seed: of the noise and of a drawn resize.
    """
    image = image.convert("RGB")
    if serving.crop is not None:
        image = cropped(image, share=serving.crop)
    if serving.resize is not None:
        sides = serving.resize
        factor = random.Random(seed).uniform(*sides) if isinstance(sides, tuple) else sides
        image = rescaled(image, factor=factor)
    if serving.blur is not None:
        image = image.filter(ImageFilter.GaussianBlur(serving.blur))
    if serving.noise is not None:
        image = noisy(image, deviation=serving.noise, seed=seed)
    if serving.bits is not None:
        image = at_depth(image, bits=serving.bits)
    if serving.jpeg is not None:
        image = jpeg(image, quality=serving.jpeg)
    return image


def cropped(image: Image.Image, *, share: float) -> Image.Image:
    """Without ``share`` of its height and width, half cut off at either side, scaled up to the old size."""
    width, height = image.size
    left, top = round(width * share / 2), round(height * share / 2)
    return image.crop((left, top, width - left, height - top)).resize((width, height), _BICUBIC)


def rescaled(image: Image.Image, *, factor: float) -> Image.Image:
    """Resized by ``factor`` and back, bicubic both ways."""
    width, height = image.size
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    return image.resize(small, _BICUBIC).resize((width, height), _BICUBIC)


def noisy(image: Image.Image, *, deviation: float, seed: int) -> Image.Image:
    """With Gaussian noise of ``deviation`` steps of 255 on every value, rounded and clipped."""
    pixels = np.asarray(image, dtype=np.float64)
    drawn = np.random.default_rng(seed).normal(scale=deviation, size=pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + drawn), 0, 255).astype(np.uint8))


def at_depth(image: Image.Image, *, bits: int) -> Image.Image:
    """Every value at the nearest of ``2 ** bits`` even levels (Xu et al. 2017, arXiv 1704.01155)."""
    top = 2**bits - 1
    levels = np.rint(np.rint(np.arange(256) * top / 255) * 255 / top).astype(np.uint8)
    return Image.fromarray(levels[np.asarray(image)])


def jpeg(image: Image.Image, *, quality: int) -> Image.Image:
    """Encoded by Pillow at ``quality`` and decoded."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")
