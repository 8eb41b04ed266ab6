"""What a thief's server does to inputs and answers: rounding, the label alone, noise, a shift of the picture.

Steps without a gradient pass it straight through (Bengio et al. 2013, arXiv 1308.3432), so that queries can
be trained through them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sif_offline.fingerprint.metav.pack import Output
from sif_offline.metav.zoo.recipe import Recipe

OUTPUT_KINDS = ("output-round", "output-label", "output-noise")
INPUT_KINDS = ("input-noise", "input-shift")


def straight_through(values: Tensor, changed: Tensor) -> Tensor:
    """``changed``, with the gradient of ``values``."""
    return values + (changed - values).detach()


@dataclass(frozen=True)
class Disguise:
    """What stands between a network and its callers; every kind but those of this module is none.

    Args:
        kind: of the recipe.
        settings: ``decimals``, ``size`` (of noise, its standard deviation) or ``pixels``.
        seed: of the noise, which depends on it and on the place of the query alone.
        probabilities: whether answers sum to 1.
    """

    kind: str
    settings: dict[str, Any]
    seed: int
    probabilities: bool

    @classmethod
    def of(cls, recipe: Recipe, output: Output) -> "Disguise":
        """Of a model of that recipe."""
        return cls(recipe.kind, recipe.settings, recipe.seed, output.kind == "probabilities")

    @property
    def of_inputs(self) -> bool:
        """Whether it changes inputs."""
        return self.kind in INPUT_KINDS

    def inputs(self, values: Tensor) -> Tensor:
        """What the network gets."""
        if self.kind == "input-noise":
            return values + float(self.settings["size"]) * self._noise(values)
        if self.kind == "input-shift":
            return torch.roll(values, int(self.settings["pixels"]), dims=-1)
        return values

    def answers(self, values: Tensor) -> Tensor:
        """What the caller gets."""
        if self.kind == "output-round":
            return straight_through(values, torch.round(values, decimals=int(self.settings["decimals"])))
        if self.kind == "output-label":
            label = torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1])
            return straight_through(values, label.to(values.dtype))
        if self.kind == "output-noise":
            noisy = values + float(self.settings["size"]) * self._noise(values)
            if not self.probabilities:
                return noisy
            positive = noisy.clamp_min(1e-6)
            return positive / positive.sum(-1, keepdim=True)
        return values

    def _noise(self, like: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(like.shape, generator=generator).to(like)
