"""Many e-processes at once, for simulations: the same numbers as ``EProcess``, one row a replica.

The tests hold it against ``EProcess`` to 1e-12.
"""

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.sequential import GRID_POINTS


class Replicas:
    """``replicas`` independent e-processes that see types of the same triggers in the same order.

    Args:
        replicas: R.
        vocab_size: V.
        green_size: N_g.
        transfer: m of the unrelated-model null; None for "independent text".
        grid_points: number of bets.

    Attributes:
        log_e: log of the current E, float64 ``(R,)``.
        max_log_e: log of the largest so far, at least 0, float64 ``(R,)``.
    """

    def __init__(
        self,
        replicas: int,
        *,
        vocab_size: int,
        green_size: int,
        transfer: float | None = None,
        grid_points: int = GRID_POINTS,
    ) -> None:
        self._vocab_size, self._green_size, self._transfer = vocab_size, green_size, transfer
        self._gamma0 = green_size / vocab_size + (transfer or 0.0)
        self._bets = self._gamma0 + (1 - self._gamma0) * (np.arange(grid_points) + 0.5) / grid_points
        self._log_bets, self._log_misses = np.log(self._bets), np.log1p(-self._bets)
        self._log_wealth = np.zeros((replicas, grid_points))
        self._seen: dict[int, int] = {}
        self._greens: dict[int, NDArray[np.int64]] = {}
        self.log_e = np.zeros(replicas)
        self.max_log_e = np.zeros(replicas)

    def rates(self, trigger: int) -> NDArray[np.float64]:
        """Green rate of the next type of ``trigger`` under the null (at most, for "unrelated model"),
        float64 ``(R,)``.
        """
        greens = self._greens.get(trigger, np.zeros(len(self.log_e), dtype=np.int64))
        urn = (self._green_size - greens) / (self._vocab_size - self._seen.get(trigger, 0))
        return urn if self._transfer is None else np.maximum(urn, self._gamma0)

    def step(self, trigger: int, colours: NDArray[np.bool_]) -> None:
        """One new type of ``trigger``, green where ``colours``, bool ``(R,)``; needs rates inside (0, 1)."""
        rates = self.rates(trigger)
        log_bets = np.where(colours[:, None], self._log_bets, self._log_misses)
        if self._transfer is not None and rates.max() > self._bets[0]:
            bets = np.maximum(self._bets, rates[:, None])
            log_bets = np.log(np.where(colours[:, None], bets, 1 - bets))
        self._log_wealth += log_bets - np.log(np.where(colours, rates, 1 - rates))[:, None]
        self._seen[trigger] = self._seen.get(trigger, 0) + 1
        self._greens[trigger] = self._greens.get(trigger, 0) + colours
        peak = self._log_wealth.max(axis=1)
        self.log_e = peak + np.log(np.exp(self._log_wealth - peak[:, None]).mean(axis=1))
        self.max_log_e = np.maximum(self.max_log_e, self.log_e)
