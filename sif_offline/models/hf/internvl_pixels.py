"""Pixels as InternVL (the HF port) takes them: square tiles in the grid nearest to the picture's shape.

The formulas are those of transformers' ``GotOcr2ImageProcessorPil``, the port's image processor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sif_offline.models.resize import resize


@dataclass(frozen=True)
class Tiling:
    """How a picture becomes tiles.

    Args:
        tile: (height, width) of a tile in pixels.
        min_tiles, max_tiles: bounds of the number of tiles, the thumbnail left out; ``max_tiles`` 1 turns
            tiling off.
        resample: filter of the resizes, as Pillow numbers them.
    """

    tile: tuple[int, int]
    min_tiles: int
    max_tiles: int
    resample: int

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns): the grid whose aspect ratio is nearest to the picture's.

        Of grids equally near the larger wins, while its tiles cover less than twice the picture's area.
        """
        if self.max_tiles <= 1:
            return 1, 1
        ratio, area = width / height, width * height
        best, nearest = (1, 1), float("inf")
        for columns, rows in self._grids():
            distance = abs(ratio - columns / rows)
            roomy = area > 0.5 * self.tile[0] * self.tile[1] * columns * rows
            if distance < nearest or (distance == nearest and roomy):
                best, nearest = (rows, columns), distance
        return best

    def count(self, height: int, width: int) -> int:
        """Tiles of a picture of this size, the thumbnail among them."""
        rows, columns = self.grid(height, width)
        return rows * columns + 1 if rows * columns > 1 else 1

    def tiles(self, pixels: Tensor, *, exact: bool = True) -> Tensor:
        """Cut pictures of one size.

        Args:
            pixels: ``(batch, 3, height, width)`` float in 0 .. 255.
            exact: False leaves the rounding out, for finite differences.

        Returns:
            ``(batch, tiles, 3, tile height, tile width)`` in 0 .. 255: row by row, then the whole picture as
            a thumbnail where there is more than one tile.
        """
        high, wide = self.tile
        rows, columns = self.grid(pixels.shape[-2], pixels.shape[-1])
        whole = resize(pixels, size=(high * rows, wide * columns), resample=self.resample, exact=exact)
        cut = whole.reshape(len(pixels), -1, rows, high, columns, wide)
        parts = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        if rows * columns == 1:
            return parts
        thumbnail = resize(pixels, size=self.tile, resample=self.resample, exact=exact)
        return torch.cat([parts, thumbnail.unsqueeze(1)], dim=1)

    def _grids(self) -> list[tuple[int, int]]:
        """Allowed (columns, rows), fewest tiles first; the order decides between grids equally near."""
        sides = range(1, self.max_tiles + 1)
        fit = [(c, r) for c in sides for r in sides if self.min_tiles <= c * r <= self.max_tiles]
        return sorted(fit, key=lambda grid: grid[0] * grid[1])
