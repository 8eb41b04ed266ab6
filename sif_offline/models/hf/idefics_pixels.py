"""Pixels as Idefics3 and SmolVLM take them: resized to a longest edge, split into square tiles.

The formulas are those of transformers' ``Idefics3ImageProcessorPil`` and ``SmolVLMImageProcessorPil``, which
are the same. Up to three resizes follow one another, each rounded to 8 bits.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sif_offline.models.resize import resize

MAX_EDGE = 4096
"""No side is longer after the first resize."""


@dataclass(frozen=True)
class Splitting:
    """How a picture becomes tiles.

    Args:
        longest_edge: of the picture after the first resize, in pixels; smaller pictures grow to it.
        tile: side of a tile in pixels.
        split: cut into tiles; without it the picture becomes one tile.
        resample: filter of the resizes, as Pillow numbers them.
    """

    longest_edge: int
    tile: int
    split: bool
    resample: int

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of the tiles; (0, 0) where the picture is one tile and nothing is split."""
        if not self.split:
            return 0, 0
        high, wide = self._tiled(*self._fitted(height, width))
        rows, columns = high // self.tile, wide // self.tile
        return (rows, columns) if rows * columns > 1 else (0, 0)

    def tiles(self, pixels: Tensor, *, exact: bool = True) -> Tensor:
        """Cut pictures of one size.

        Args:
            pixels: ``(batch, 3, height, width)`` float in 0 .. 255.
            exact: False leaves the rounding out, for finite differences.

        Returns:
            ``(batch, tiles, 3, tile, tile)`` in 0 .. 255: row by row, then the whole picture; the whole
            picture alone where nothing is split.
        """
        resample, square = self.resample, (self.tile, self.tile)
        size = self._fitted(pixels.shape[-2], pixels.shape[-1])
        whole = resize(pixels, size=size, resample=resample, exact=exact)
        rows, columns = self.grid(pixels.shape[-2], pixels.shape[-1])
        parts = []
        if rows:
            whole = resize(whole, size=self._tiled(*size), resample=resample, exact=exact)
            cut = whole.reshape(len(pixels), -1, rows, self.tile, columns, self.tile)
            parts = [cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)]
        last = resize(whole, size=square, resample=resample, exact=exact)
        return torch.cat([*parts, last.unsqueeze(1)], dim=1)

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        """The longest edge as asked, the other even."""
        ratio = width / height
        if width >= height:
            width = self.longest_edge
            height = int(width / ratio)
            height += height % 2
        else:
            height = self.longest_edge
            width = int(height * ratio)
            width += width % 2
        height, width = max(height, 1), max(width, 1)
        ratio = width / height
        if width >= height and width > MAX_EDGE:
            width, height = MAX_EDGE, int(MAX_EDGE / ratio)
        elif height > width and height > MAX_EDGE:
            height, width = MAX_EDGE, int(MAX_EDGE * ratio)
        return max(height, 1), max(width, 1)

    def _tiled(self, height: int, width: int) -> tuple[int, int]:
        """Sides rounded up to whole tiles, the longer one first."""
        ratio = width / height
        if width >= height:
            width = math.ceil(width / self.tile) * self.tile
            height = math.ceil(int(width / ratio) / self.tile) * self.tile
        else:
            height = math.ceil(height / self.tile) * self.tile
            width = math.ceil(int(height * ratio) / self.tile) * self.tile
        return height, width
