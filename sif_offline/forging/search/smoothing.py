"""Gradients without their finest detail, which JPEG and resizing would throw away."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def smoothed(gradient: Tensor, *, sigma: float) -> Tensor:
    """Convolved with a Gaussian, the border repeated (TI-FGSM, Dong et al. 2019, arXiv 1904.02884).

    Args:
        gradient: ``(batch, 3, height, width)`` float32.
        sigma: deviation in pixels; 0 changes nothing.
    """
    if sigma == 0:
        return gradient
    radius = math.ceil(3 * sigma)
    places = torch.arange(-radius, radius + 1, device=gradient.device, dtype=gradient.dtype)
    weights = torch.exp(-places.square() / (2 * sigma**2))
    row = (weights / weights.sum()).view(1, 1, 1, -1).repeat(gradient.shape[1], 1, 1, 1)
    padded = functional.pad(gradient, (radius,) * 4, mode="replicate")
    wide = functional.conv2d(padded, row, groups=gradient.shape[1])
    return functional.conv2d(wide, row.transpose(2, 3), groups=gradient.shape[1])
