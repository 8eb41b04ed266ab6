"""Pixels as Qwen2-VL, Qwen2.5-VL and Qwen3-VL take them: resized to a grid that fits, cut into flat patches.

The formulas are those of transformers' ``Qwen2VLImageProcessorPil``, which all three share.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from sif_offline.models.resize import resize


@dataclass(frozen=True)
class PatchGrid:
    """How a picture becomes patches.

    Args:
        patch_size: side of a patch in pixels.
        merge_size: so many patches a side become one image token.
        temporal_patch_size: frames a patch spans; a picture stands in each.
        min_pixels, max_pixels: bounds of the area after the resize.
        resample: filter of the resize, as Pillow numbers them.
    """

    patch_size: int
    merge_size: int
    temporal_patch_size: int
    min_pixels: int
    max_pixels: int
    resample: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels after the resize: multiples of ``patch_size * merge_size``, about the
        same aspect ratio, an area within the bounds.

        Raises:
            ValueError: one side more than 200 times the other.
        """
        if max(height, width) > 200 * min(height, width):
            raise ValueError(f"a picture of {width} x {height}: one side is more than 200 times the other")
        factor = self.patch_size * self.merge_size
        high, wide = round(height / factor) * factor, round(width / factor) * factor
        if high * wide > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            high = max(factor, math.floor(height / shrink / factor) * factor)
            wide = max(factor, math.floor(width / shrink / factor) * factor)
        elif high * wide < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            high = math.ceil(height * grow / factor) * factor
            wide = math.ceil(width * grow / factor) * factor
        return high, wide

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """``image_grid_thw`` of a picture of this size: 1, patches down, patches across."""
        high, wide = self.size(height, width)
        return 1, high // self.patch_size, wide // self.patch_size

    def tokens(self, height: int, width: int) -> int:
        """Image tokens of a picture of this size."""
        _, down, across = self.shape(height, width)
        return down * across // self.merge_size**2

    def resized(self, pixels: Tensor, *, exact: bool = True) -> Tensor:
        """``(batch, 3, height, width)`` float in 0 .. 255 to the sides of :meth:`size`; ``exact`` False
        leaves the rounding out, for finite differences."""
        size = self.size(pixels.shape[-2], pixels.shape[-1])
        return resize(pixels, size=size, resample=self.resample, exact=exact)

    def patches(self, values: Tensor) -> Tensor:
        """Cut resized and normalised pictures.

        Args:
            values: ``(batch, 3, height, width)``, sides from :meth:`size`.

        Returns:
            ``(batch, patches, 3 * temporal_patch_size * patch_size ** 2)``: patches that become one token
            follow one another, tokens go row by row.
        """
        batch, channels, height, width = values.shape
        side, merge = self.patch_size, self.merge_size
        down, across = height // side // merge, width // side // merge
        cut = values.reshape(batch, channels, down, merge, side, across, merge, side)
        cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        cut = cut.expand(*cut.shape[:6], self.temporal_patch_size, side, side)
        return cut.reshape(batch, down * across * merge**2, -1)
