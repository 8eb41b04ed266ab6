"""Random search on the judged objective, from where the gradient left off.

The gradient follows teacher-forced probabilities; what counts is the model's own greedy answer, which jumps
as the picture moves. Decoding is far cheaper than a gradient step, so each round tries a handful of smooth
random changes inside the eps box and keeps one where the judge (the owner and its perturbed copies) likes
its answers better. Selection is by key and owner alone: it uses no answer of any suspect.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sif_offline.forging.optimiser import Best
from sif_offline.forging.settings import ForgeSettings

GRIDS = (7, 14, 28)
"""Cells a side of the random fields that a change is made of, coarse to fine."""


@dataclass(frozen=True)
class Round:
    """Progress: round from 1, of how many, and the batch's mean selection score."""

    number: int
    total: int
    score: float

    def describe(self) -> str:
        """For people."""
        return f"refining, judged z {self.score:.2f}"


def refine(
    found: Sequence[Best],
    *,
    clean: Tensor,
    settings: ForgeSettings,
    seeds: Sequence[int],
    judge: Callable[[Tensor, Sequence[int]], Sequence[float]],
    on_round: Callable[[Round], None] = lambda done: None,
) -> list[Best]:
    """Improve triggers by greedy random search; with no rounds in the settings they come back as they are.

    A trigger that has reached ``stop_at`` is left alone.

    Args:
        found: the gradient's triggers.
        clean: ``(batch, 3, height, width)`` uint8, their photos.
        settings: ``refine_rounds``, ``refine_candidates``, ``refine_scales`` and ``epsilon``.
        seeds: one a trigger, so that a trigger's candidates do not depend on its batch.
        judge: pictures ``(n, 3, height, width)`` uint8 and the trigger each belongs to, to a score each.
        on_round: called after every round.

    Returns:
        The triggers, none with a lower selection score than before.
    """
    s = settings
    best = list(found)
    chances = [torch.Generator().manual_seed(seed) for seed in seeds]
    photos = clean.float()
    for number in range(1, s.refine_rounds + 1):
        pictures, owners = [], []
        for place, held in enumerate(best):
            if s.stop_at is not None and held.score >= s.stop_at:
                continue
            for attempt in range(s.refine_candidates):
                scale = s.refine_scales[attempt % len(s.refine_scales)]
                change = scale * _smooth_noise(held.pixels.shape, chances[place])
                moved = (held.pixels.float() + change - photos[place]).clamp(-s.epsilon, s.epsilon)
                pictures.append((photos[place] + moved).clamp(0, 255).round().to(torch.uint8))
                owners.append(place)
        if not pictures:
            break
        for picture, place, score in zip(pictures, owners, judge(torch.stack(pictures), owners), strict=True):
            if score > best[place].score:
                best[place] = Best(pixels=picture, score=float(score), step=best[place].step)
        on_round(Round(number, s.refine_rounds, sum(held.score for held in best) / len(best)))
    return best


def _smooth_noise(shape: torch.Size, chance: torch.Generator) -> Tensor:
    """``(3, height, width)`` float32: random fields of several grid sizes, about unit variance in all."""
    height, width = shape[-2:]
    fields = [
        functional.interpolate(
            torch.randn(1, 3, grid, grid, generator=chance), size=(height, width), mode="bilinear"
        )[0]
        for grid in GRIDS
    ]
    return torch.stack(fields).sum(dim=0).div(len(fields) ** 0.5)
