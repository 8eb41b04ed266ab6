"""Will a watch that uses this pack convict? Estimated from what simulated suspects answered to its triggers.

The watch of :class:`~sif_offline.fingerprint.sequential.EProcess` confirms at E >= 1/alpha. One replica asks
as many triggers as answers are allowed, drawn with replacement from the measured ones (the bootstrap, Efron
1979); each answer has the types and greens of the trigger drawn, in random order. The power is the share of
replicas that confirm. It speaks of suspects like the simulated ones and of an endpoint that answers as they
do; it is an estimate from few triggers, not a bound.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from sif_offline.fingerprint.combining import INDEPENDENT_TEXT, UNRELATED_MODEL
from sif_offline.fingerprint.sequential import EProcess

FEWEST_TRIGGERS = 4
"""Measured triggers below which no power is estimated: drawing from fewer says nothing about others."""
REPLICAS = 400


class Counts(NamedTuple):
    """Distinct scored types of one suspect's answer to one trigger, and the green ones among them."""

    types: int
    greens: int


@dataclass(frozen=True)
class Power:
    """One suspect under one null.

    Args:
        suspect: its name.
        null: ``independent text`` or ``unrelated model``.
        triggers: measured.
        answers: allowed, and asked at most: one a trigger, as a greedy endpoint repeats itself.
        power: share of replicas that reached E >= 1/alpha, in [0, 1].
        median_answers: until half of the replicas had; None where fewer than half ever did.
        green_share: of all measured types.
    """

    suspect: str
    null: str
    triggers: int
    answers: int
    power: float
    median_answers: int | None
    green_share: float

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def estimate_power(
    counts: Sequence[Counts],
    *,
    suspect: str,
    vocab_size: int,
    green_size: int,
    alpha: float,
    max_answers: int | None = None,
    transfer: float | None = None,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> Power:
    """Power of one pack against one suspect.

    Args:
        counts: one a trigger, at least one.
        suspect: its name, for the result.
        vocab_size: V.
        green_size: N_g.
        alpha: level of the watch, in (0, 1).
        max_answers: the watch may take so many; None = one to every trigger. More answers than triggers
            are not counted: they repeat what a greedy endpoint has said.
        transfer: m of the unrelated-model null; None for "independent text".
        replicas: simulated watches; the standard error of the power is at most ``.5/sqrt(replicas)``.
        seed: the only source of chance.

    Raises:
        ValueError: no counts, or an impossible alpha.
    """
    if not counts or not 0 < alpha < 1:
        raise ValueError(f"power from {len(counts)} triggers at alpha {alpha} is impossible")
    answers = len(counts) if max_answers is None else min(max_answers, len(counts))
    chance = np.random.default_rng(seed)
    needed = [
        _answers_needed(counts, answers, -math.log(alpha), vocab_size, green_size, transfer, chance)
        for _ in range(replicas)
    ]
    median = sorted(needed)[(replicas - 1) // 2]
    return Power(
        suspect=suspect,
        null=INDEPENDENT_TEXT if transfer is None else UNRELATED_MODEL,
        triggers=len(counts),
        answers=answers,
        power=sum(count <= answers for count in needed) / replicas,
        median_answers=median if median <= answers else None,
        green_share=sum(row.greens for row in counts) / max(1, sum(row.types for row in counts)),
    )


def _answers_needed(
    counts: Sequence[Counts],
    answers: int,
    log_target: float,
    vocab_size: int,
    green_size: int,
    transfer: float | None,
    chance: np.random.Generator,
) -> int:
    """Answers until E is large enough; ``answers + 1`` where that never comes."""
    process = EProcess(vocab_size=vocab_size, green_size=green_size, transfer=transfer)
    for number, drawn in enumerate(chance.integers(len(counts), size=answers).tolist(), start=1):
        types, greens = counts[drawn]
        colours = chance.permutation(types) < greens
        # every draw stands for a trigger of its own, whatever it was drawn from
        process.update(str(number), enumerate(colours.tolist()))
        if process.max_log_e >= log_target:
            return number
    return answers + 1
