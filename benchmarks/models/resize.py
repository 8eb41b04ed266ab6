"""Our resize beside Pillow's and torch's: ``python -m benchmarks.models.resize [--json]``.

Ratios of the best of several runs on one thread, so that a busy machine shows less; and how far torch's own
antialiased bicubic, rounded and clipped, is from Pillow's values.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from sif_offline.models.checks import picture_tensor
from sif_offline.models.resize import Filter, resize
from sif_offline.models.testing.photos import photo

CASES = (
    ("china", (503, 336)),
    ("china", (2016, 1344)),
    ("astronaut", (896, 896)),
    ("coffee", (336, 224)),
)
"""(photo, (width, height) wanted)."""
RUNS = 7


def measure(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """One photo to one size with the bicubic filter."""
    picture, wanted = photo(name), (size[1], size[0])
    pixels = picture_tensor(picture)
    leaf = pixels.clone().requires_grad_()

    def ours(values: Tensor) -> Tensor:
        return resize(values, size=wanted, resample=Filter.BICUBIC)

    def torchs(values: Tensor) -> Tensor:
        return interpolate(values, size=wanted, mode="bicubic", antialias=True)

    def with_gradient(function: Callable[[Tensor], Tensor]) -> float:
        return _best(lambda: torch.autograd.grad(function(leaf).sum(), leaf))

    pillow = np.array(picture.resize(size, Image.Resampling.BICUBIC))
    theirs = torch.from_numpy(pillow).permute(2, 0, 1)[None].float()
    gap = (torchs(pixels).round().clamp(0, 255) - theirs).abs()
    return {
        "photo": name,
        "from": list(picture.size),
        "to": list(size),
        "equal_to_pillow": torch.equal(ours(pixels), theirs),
        "time_over_pillow": _best(lambda: ours(pixels))
        / _best(lambda: picture.resize(size, Image.Resampling.BICUBIC)),
        "time_over_torch_with_gradient": with_gradient(ours) / with_gradient(torchs),
        "torch_differs_share": float((gap > 0).float().mean()),
        "torch_differs_by": float(gap.max()),
    }


def _best(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    rows = [measure(name, size) for name, size in CASES]
    if as_json:
        sys.stdout.write(json.dumps({"rows": rows}) + "\n")
        return
    for row in rows:
        sys.stdout.write(
            f"{row['photo']:<10} {row['from']} -> {row['to']}: equal to Pillow {row['equal_to_pillow']}, "
            f"{row['time_over_pillow']:.1f} x Pillow's time, with the gradient "
            f"{row['time_over_torch_with_gradient']:.1f} x torch's; torch differs in "
            f"{row['torch_differs_share']:.0%} of the values, by up to {row['torch_differs_by']:.0f}\n"
        )


if __name__ == "__main__":
    main()
