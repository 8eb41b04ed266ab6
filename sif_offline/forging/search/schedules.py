"""Step lengths over a run."""

import math

from sif_offline.forging.settings import ForgeSettings


def step_length(settings: ForgeSettings, number: int) -> float:
    """Length of step ``number`` (from 1) in 1/255: ``alpha`` at the first step, ``alpha_end`` at the last.

    "constant" stays at ``alpha``; "linear" is a straight line; "cosine" is half a cosine wave (Loshchilov and
    Hutter 2017, arXiv 1608.03983).
    """
    s = settings
    done = (number - 1) / max(1, s.steps - 1)
    if s.schedule == "constant":
        return s.alpha
    if s.schedule == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return s.alpha + (s.alpha_end - s.alpha) * done
