"""What a detector looks at: statistics of the high-frequency residual, and the stolen encoder's features."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import convolve1d, median_filter
from scipy.stats import kurtosis

from sif_offline.models.lab import LabAdapter

Features = NDArray[np.float64]
_KERNELS = (np.array([1.0, -1.0]), np.array([1.0, -2.0, 1.0]), np.array([1.0, -3.0, 3.0, -1.0]))
"""Derivatives of order 1 to 3, the linear residuals of Fridrich and Kodovsky (2012)."""
_BLOCK = 8
_TRUNCATED = 3
BATCH = 16


def residual_features(image: Image.Image) -> Features:
    """Statistics of one RGB picture of at least 8 pixels a side, ``(172,)``.

    For each channel and each of six linear residuals and that of a 3 x 3 median: log mean square, log mean
    size and kurtosis; the shares of neighbouring pairs of the second derivative, halved, rounded and cut off
    at 3, by the sum of their sizes (a short form of the co-occurrences of the spatial rich model, Fridrich
    and Kodovsky 2012). Correlations between the channels' residuals; the mean log energy of each frequency of
    the luminance's 8 x 8 DCT.
    """
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    found: list[float] = []
    kept = []
    for channel in np.moveaxis(pixels, -1, 0):
        residuals = [convolve1d(channel, kernel, axis=axis) for kernel in _KERNELS for axis in (0, 1)]
        residuals.append(channel - median_filter(channel, size=3))
        kept.append(residuals[-1].ravel())
        for residual in residuals:
            flat = residual.ravel()
            found += [np.log(np.mean(flat**2) + 1e-6), np.log(np.mean(np.abs(flat)) + 1e-6)]
            found.append(float(kurtosis(flat)) if flat.std() > 1e-9 else 0.0)
        for axis in (0, 1):
            found += _pairs(residuals[2 + axis], axis)
    found += _correlations(kept)
    found += _dct_energies(pixels @ np.array([0.299, 0.587, 0.114]))
    return np.array(found, dtype=np.float64)


def _pairs(residual: Features, axis: int) -> list[float]:
    cut = np.clip(np.rint(residual / 2), -_TRUNCATED, _TRUNCATED)
    one, other = (np.moveaxis(cut, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
    sums = (np.abs(one) + np.abs(other)).astype(int)
    return list(np.bincount(sums.ravel(), minlength=2 * _TRUNCATED + 1) / sums.size)


def _correlations(residuals: Sequence[Features]) -> list[float]:
    flat = [row - row.mean() for row in residuals]
    sizes = [float(np.sqrt((row**2).sum())) + 1e-9 for row in flat]
    pairs = ((0, 1), (0, 2), (1, 2))
    return [float(flat[i] @ flat[j]) / (sizes[i] * sizes[j]) for i, j in pairs]


def _dct_energies(luminance: Features) -> list[float]:
    height, width = (side // _BLOCK for side in luminance.shape)
    cut = luminance[: height * _BLOCK, : width * _BLOCK]
    blocks = cut.reshape(height, _BLOCK, width, _BLOCK).swapaxes(1, 2)
    coefficients = dctn(blocks, axes=(2, 3), norm="ortho")
    return list(np.log(np.square(coefficients) + 1e-3).mean(axis=(0, 1)).ravel())


@torch.inference_mode()
def encoder_features(adapter: LabAdapter, images: Sequence[Image.Image]) -> Features:
    """Mean and deviation over the grid of what the stolen encoder sees, ``(images, 2 channels)``."""
    rows = []
    for start in range(0, len(images), BATCH):
        values = adapter.processor.pixel_values(images[start : start + BATCH])
        grid = adapter.model.vision_encoder(values).flatten(2)
        rows.append(torch.cat([grid.mean(-1), grid.std(-1)], dim=1))
    return torch.cat(rows).double().numpy()
