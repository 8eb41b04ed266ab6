"""Update rules. All keep the picture within epsilon of the photo and within 0 .. 255."""

from typing import Protocol

import torch
from torch import Tensor

from sif_offline.forging.settings import ForgeSettings

_TINY = torch.finfo(torch.float32).tiny


class Rule(Protocol):
    """The state of one batch's search."""

    def picture(self) -> Tensor:
        """``(batch, 3, height, width)`` float32 in 0 .. 255, not yet rounded."""
        ...

    def step(self, gradient: Tensor, *, length: float) -> None:
        """Go down the gradient of that picture by about ``length``/255."""
        ...


class Momentum:
    """PGD by the sign of a running sum of gradients (MI-FGSM, Dong et al. 2018, arXiv 1710.06081).

    Gradients are divided by their mean absolute value first, so that steps weigh alike whatever the loss's
    scale. With ``momentum`` 0 it is sign PGD (Madry et al. 2018, arXiv 1706.06083).

    Args:
        photo: ``(batch, 3, height, width)`` float32 in 0 .. 255.
        epsilon: bound in 1/255.
        momentum: share of the sum that is kept.
    """

    def __init__(self, photo: Tensor, *, epsilon: float, momentum: float) -> None:
        self.photo, self.epsilon, self.momentum = photo, epsilon, momentum
        self.moved = torch.zeros_like(photo)
        self.velocity = torch.zeros_like(photo)

    def picture(self) -> Tensor:
        """See :class:`Rule`."""
        return self.photo + self.moved

    def step(self, gradient: Tensor, *, length: float) -> None:
        """See :class:`Rule`; every channel of every pixel moves by ``length``."""
        self.velocity = self.momentum * self.velocity + normalised(gradient)
        moved = (self.moved - length * self.velocity.sign()).clamp(-self.epsilon, self.epsilon)
        self.moved = (self.photo + moved).clamp(0, 255) - self.photo


class AdamTanh:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) on w with trigger = photo + epsilon tanh(w).

    The change of variables of Carlini and Wagner 2017 (arXiv 1608.04644), with the eps box in place of the
    pixel box; what leaves 0 .. 255 is clipped. Near w = 0 a first step moves a pixel by ``length``.

    Args:
        photo: ``(batch, 3, height, width)`` float32 in 0 .. 255.
        epsilon: bound in 1/255.
        betas: decay of the two running means.
    """

    def __init__(self, photo: Tensor, *, epsilon: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        self.photo, self.epsilon, self.betas = photo, epsilon, betas
        self.w = torch.zeros_like(photo)
        self.first = torch.zeros_like(photo)
        self.second = torch.zeros_like(photo)
        self.steps = 0

    def picture(self) -> Tensor:
        """See :class:`Rule`."""
        return (self.photo + self.epsilon * torch.tanh(self.w)).clamp(0, 255)

    def step(self, gradient: Tensor, *, length: float) -> None:
        """See :class:`Rule`."""
        self.steps += 1
        inner = normalised(gradient) * (1 - torch.tanh(self.w).square())
        b1, b2 = self.betas
        self.first = b1 * self.first + (1 - b1) * inner
        self.second = b2 * self.second + (1 - b2) * inner.square()
        mean = self.first / (1 - b1**self.steps)
        deviation = (self.second / (1 - b2**self.steps)).sqrt()
        self.w = self.w - length / self.epsilon * mean / (deviation + 1e-8)


def make_rule(settings: ForgeSettings, photo: Tensor) -> Rule:
    """The rule that ``settings.search`` names."""
    s = settings
    if s.search == "adam":
        return AdamTanh(photo, epsilon=s.epsilon)
    return Momentum(photo, epsilon=s.epsilon, momentum=0.0 if s.search == "sign" else s.momentum)


def normalised(gradient: Tensor) -> Tensor:
    """Each picture's gradient over its mean absolute value; a zero gradient stays zero."""
    return gradient / gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(_TINY)
