"""Whether an adapter sees what its model's processor sees: for ``sif models check``, and at every load."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sif_offline.models.base import ModelError, VLMAdapter

TOLERANCE = 1e-6
"""Largest difference of a prepared value that still counts as equal: float32 rounding near 1."""
GRADIENT_TOLERANCE = 1e-6
"""Largest relative error of a directional derivative against central differences in float64."""
TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"})
"""What a processor says of the text; all else that it gives describes the picture."""


@dataclass(frozen=True)
class PixelCheck:
    """One picture through both ways.

    Args:
        size: (height, width).
        difference: largest |adapter - processor| over all prepared values, infinite where shapes or names
            differ.
        reason: what differs besides the values, empty where nothing does.
    """

    size: tuple[int, int]
    difference: float
    reason: str = ""

    @property
    def equal(self) -> bool:
        """Within :data:`TOLERANCE`."""
        return self.difference <= TOLERANCE


def picture_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as ``(1, 3, height, width)`` float32 in 0 .. 255."""
    values = np.array(image.convert("RGB"), dtype=np.uint8)
    return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous().float()


def check_pixels(adapter: VLMAdapter, image: Image.Image, *, prompt: str = "Describe.") -> PixelCheck:
    """Compare :meth:`VLMAdapter.preprocess` with the model's own processor on one picture."""
    size = (image.height, image.width)
    inputs = adapter.processed([image.convert("RGB")], prompt)
    theirs = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
    ours = adapter.preprocess(picture_tensor(image).to(adapter.device))
    if set(ours) != set(theirs):
        return PixelCheck(size, float("inf"), f"names: {sorted(ours)} against {sorted(theirs)}")
    worst = 0.0
    for name, value in theirs.items():
        if value.shape != ours[name].shape:
            shapes = f"{tuple(ours[name].shape)} against {tuple(value.shape)}"
            return PixelCheck(size, float("inf"), f"{name}: {shapes}")
        gap = (ours[name].detach().cpu().double() - value.double()).abs()
        worst = max(worst, float(gap.max()))
    return PixelCheck(size, worst)


def check_template(adapter: VLMAdapter, image: Image.Image, *, prompt: str) -> bool:
    """Whether forging's prompt ids are what the processor and its chat template give for the picture."""
    theirs = adapter.processed([image.convert("RGB")], prompt)["input_ids"][0]
    ours = adapter.prompt_ids(prompt, size=(image.height, image.width))
    return torch.equal(ours.cpu(), theirs.cpu())


def gradient_error(adapter: VLMAdapter, image: Image.Image, *, seed: int = 0, reach: float = 1e-3) -> float:
    """Relative error of the reported gradient of :meth:`VLMAdapter.preprocess`, by central differences.

    The picture is drawn towards grey first, so that no resize clips. The gradient is the one that the exact
    values report; the differences are taken, in float64 and along a random direction, of the smooth function
    without rounding, because the exact one is a staircase.

    Args:
        adapter: any.
        image: RGB.
        seed: of the direction and of the weights of the outputs.
        reach: half the distance of the two points, in 8-bit values.
    """
    chance = torch.Generator().manual_seed(seed)
    pixels = (picture_tensor(image).double() * 0.25 + 96).round().to(adapter.device)
    leaf = pixels.clone().requires_grad_()
    exact = _floating(adapter, leaf)
    pulls = [torch.randn(value.shape, generator=chance, dtype=torch.float64).to(value) for value in exact]
    direction = torch.randn(pixels.shape, generator=chance, dtype=torch.float64).to(pixels)
    (gradient,) = torch.autograd.grad(_weighed(exact, pulls), leaf)
    slope = float((gradient * direction).sum())
    with torch.no_grad():
        ahead, behind = (
            _weighed(_floating(adapter, pixels + sign * reach * direction, exact=False), pulls)
            for sign in (1, -1)
        )
    measured = float(ahead - behind) / (2 * reach)
    return abs(slope - measured) / max(abs(measured), float(gradient.norm()))


def refuse_unequal_pixels(adapter: VLMAdapter) -> None:
    """Compare on one odd picture of noise.

    Raises:
        ModelError: they differ.
    """
    noise = np.random.default_rng(0).integers(0, 256, (97, 151, 3), dtype=np.int64).astype(np.uint8)
    found = check_pixels(adapter, Image.fromarray(noise))
    if not found.equal:
        raise ModelError(
            f"model {adapter.name}: its image processor has options that are not reproduced here "
            f"({found.reason or f'values differ by {found.difference:.3g}'})"
        )


def _floating(adapter: VLMAdapter, pixels: Tensor, *, exact: bool = True) -> list[Tensor]:
    values = adapter.preprocess(pixels, exact=exact)
    return [values[name] for name in sorted(values) if values[name].is_floating_point()]


def _weighed(values: list[Tensor], pulls: list[Tensor]) -> Tensor:
    return torch.stack([(value * pull).sum() for value, pull in zip(values, pulls, strict=True)]).sum()
