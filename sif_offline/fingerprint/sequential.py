"""Evidence that may be looked at every minute for ever: test martingales over newly seen (trigger, type)
pairs.

E starts at 1 and, under the null, P(ever E >= 1/alpha) <= alpha (Ville 1939); see Howard et al. 2021 and
Waudby-Smith and Ramdas 2024. Natural logs throughout.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.evalue_beta import log_evalue_beta

if TYPE_CHECKING:
    from sif_offline.fingerprint.pack_scorer import ScoredToken

__all__ = [
    "CONFIRMED",
    "GRID_POINTS",
    "SUSPICIOUS",
    "EProcess",
    "VerdictState",
    "anytime_pvalue",
    "ebh",
    "log_evalue_beta",
    "verdict_state",
]

GRID_POINTS = 64
SUSPICIOUS = 0.01
"""Anytime p at which an endpoint is called suspicious."""
CONFIRMED = 1e-6
"""Default anytime p at which it is called confirmed (under the unrelated-model null alone)."""

VerdictState = Literal["none", "suspicious", "confirmed"]

_Name = TypeVar("_Name", bound=Hashable)


class EProcess:
    """One test martingale a target: exact, whatever the stopping rule, over a fixed grid of bets.

    A type that is new for its trigger is X = 1 if green. Under "independent text" it is so with probability
    ``gamma_t = (N_g - G)/(V - t)`` after t types of that key, G of them green. The bet q, fixed before seeing
    it, multiplies its wealth by ``(q/gamma_t)^X ((1-q)/(1-gamma_t))^(1-X)``; E is the mean wealth over the
    grid, the midpoints of equal parts of (gamma, 1). For "unrelated model" gamma_t is replaced by the larger
    of it and ``gamma0 = gamma + transfer``; as no bet lies below the rate there (q is raised to it), E is
    then a supermartingale for every rate up to that. A repeat of a trigger contributes its new types alone;
    nothing is averaged.

    Args:
        vocab_size: V.
        green_size: N_g.
        transfer: m >= 0 of the unrelated-model null; None for "independent text".
        grid_points: number of bets.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        green_size: int,
        transfer: float | None = None,
        grid_points: int = GRID_POINTS,
    ) -> None:
        gamma0 = green_size / vocab_size + (transfer or 0.0)
        if (transfer is not None and transfer < 0) or not 0 < gamma0 < 1 or grid_points < 1:
            raise ValueError(f"gamma0 = {gamma0} or {grid_points} grid points are impossible")
        self.vocab_size = vocab_size
        self.green_size = green_size
        self.transfer = transfer
        self._gamma0 = gamma0
        self._bets = gamma0 + (1 - gamma0) * (np.arange(grid_points) + 0.5) / grid_points
        self._log_wealth = np.zeros(grid_points)
        self._seen: dict[str, dict[int, bool]] = {}
        self._greens: dict[str, int] = {}
        self._max_log_e = 0.0

    def update(self, trigger_id: str, types: "Iterable[tuple[int, bool | None] | ScoredToken]") -> int:
        """Add one answer to ``trigger_id``; returns how many types of it were new.

        Args:
            trigger_id: whose key coloured the types.
            types: (id, green) in order of arrival; repeats and unscored ones (green is None) are passed over.

        Raises:
            ValueError: more distinct types than the vocabulary has; the process is then unchanged.
        """
        seen = self._seen.get(trigger_id, {})
        new: dict[int, bool] = {}
        for type_id, green in ((entry[0], entry[1]) for entry in types):
            if green is not None and type_id not in seen:
                new.setdefault(type_id, bool(green))
        if len(seen) + len(new) > self.vocab_size:
            raise ValueError(f"{len(seen) + len(new)} types of one trigger, V is {self.vocab_size}")
        greens = self._greens.get(trigger_id, 0)
        if new:
            self._bet(np.array(list(new.values())), seen=len(seen), greens=greens)
        self._seen.setdefault(trigger_id, seen).update(new)
        self._greens[trigger_id] = greens + sum(new.values())
        return len(new)

    def _bet(self, colours: NDArray[np.bool_], *, seen: int, greens: int) -> None:
        """Bet on new types of one key, bool ``(n,)``, after ``seen`` types of it with ``greens`` green."""
        before = greens + np.cumsum(colours) - colours
        rates = (self.green_size - before) / (self.vocab_size - seen - np.arange(len(colours)))
        if self.transfer is not None:
            rates = np.maximum(rates, self._gamma0)
        known = (rates <= 0) | (rates >= 1)  # every id left has one colour: nothing to learn
        rates, colours = rates[~known, None], colours[~known, None]
        if not len(rates):
            return
        # a bet below the rate would gain from rates below it, which the composite null contains
        bets = self._bets if self.transfer is None else np.maximum(self._bets, rates)
        steps = np.log(np.where(colours, bets / rates, (1 - bets) / (1 - rates)))
        paths = np.cumsum(np.vstack((self._log_wealth, steps)), axis=0)[1:]
        self._log_wealth = paths[-1].copy()
        # E between two types is as good a moment to stop as any other
        self._max_log_e = max(self._max_log_e, float(_log_mean_exp(paths).max()))

    def seen(self, trigger_id: str) -> AbstractSet[int]:
        """The types of a trigger so far; of no further use after the next update."""
        return self._seen.get(trigger_id, {}).keys()

    @property
    def log_e(self) -> float:
        """Log of the current E (the e-value to feed to e-BH)."""
        return float(_log_mean_exp(self._log_wealth[None, :])[0])

    @property
    def max_log_e(self) -> float:
        """Log of the largest E so far, at least 0; not an e-value, only the way to the anytime p."""
        return self._max_log_e

    @property
    def types(self) -> int:
        """(trigger, type) pairs seen."""
        return sum(len(seen) for seen in self._seen.values())

    @property
    def greens(self) -> int:
        """Green ones among them."""
        return sum(self._greens.values())

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart, as JSON values; holds no key, but colours of seen
        types.
        """
        return {
            "schema_version": 1,
            "vocab_size": self.vocab_size,
            "green_size": self.green_size,
            "transfer": self.transfer,
            "log_wealth": self._log_wealth.tolist(),
            "max_log_e": self._max_log_e,
            "seen": {
                trigger: [[i, int(green)] for i, green in seen.items()]
                for trigger, seen in self._seen.items()
            },
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "EProcess":
        """The process that :meth:`state` described, to the last bit; ``ValueError`` for anything else."""
        try:
            if state["schema_version"] != 1:
                raise ValueError(f"e-process state of schema version {state['schema_version']}")
            process = cls(
                vocab_size=state["vocab_size"],
                green_size=state["green_size"],
                transfer=state["transfer"],
                grid_points=len(state["log_wealth"]),
            )
            process._log_wealth = np.array(state["log_wealth"], dtype=np.float64)
            process._max_log_e = float(state["max_log_e"])
            process._seen = {t: {int(i): bool(g) for i, g in pairs} for t, pairs in state["seen"].items()}
            process._greens = {t: sum(seen.values()) for t, seen in process._seen.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of an e-process: {error!r}") from None
        return process


def _log_mean_exp(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the mean of ``e^logs`` over the last axis of ``(n, grid)``."""
    peak = logs.max(axis=1)
    means: NDArray[np.float64] = peak + np.log(np.exp(logs - peak[:, None]).mean(axis=1))
    return means


def anytime_pvalue(max_log_e: float) -> float:
    """``min(1, 1/max E)``, valid at every moment at once; in [0, 1]."""
    return math.exp(min(0.0, -max_log_e))


def verdict_state(max_log_e: float, *, alpha: float = CONFIRMED) -> VerdictState:
    """``confirmed`` at anytime p <= alpha, ``suspicious`` at <= .01, else ``none``.

    "confirmed" may be said only of a process under the unrelated-model null.
    """
    if max_log_e >= -math.log(alpha):
        return "confirmed"
    return "suspicious" if max_log_e >= -math.log(SUSPICIOUS) else "none"


@overload
def ebh(log_e_values: Mapping[_Name, float], *, alpha: float) -> frozenset[_Name]: ...


@overload
def ebh(log_e_values: Sequence[float], *, alpha: float) -> frozenset[int]: ...


def ebh(log_e_values: Mapping[Any, float] | Sequence[float], *, alpha: float) -> frozenset[Any]:
    """e-BH over many endpoints (Wang and Ramdas 2022): reject the ``k* = max{k : e_(k) >= m/(alpha k)}``
    largest.

    The expected share of true nulls among the rejected is at most alpha, however the e-values depend on one
    another. Feed the current E of each endpoint (``EProcess.log_e``). The running maximum
    (``EProcess.max_log_e``, the inverse of the anytime p) must not be fed in: it is no e-value, its mean
    under the null passes 1 and grows with the watch, and nothing bounds the share of false rejections then.

    Args:
        log_e_values: natural log of the current E by endpoint, or in a sequence; -inf is an E of 0.
        alpha: bound of the false-discovery rate, in (0, 1).

    Returns:
        The names of the rejected, or their places in the sequence. Equal values are rejected together.

    Raises:
        ValueError: alpha out of range, or a value that is not a number.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"a false-discovery rate of {alpha} is impossible")
    values: dict[Any, float] = (
        dict(log_e_values) if isinstance(log_e_values, Mapping) else dict(enumerate(log_e_values))
    )
    if any(math.isnan(value) for value in values.values()):
        raise ValueError("an e-value that is not a number")
    ranked = sorted(values, key=values.__getitem__, reverse=True)
    log_least = math.log(len(ranked) or 1) - math.log(alpha)
    kept = max(
        (k for k, name in enumerate(ranked, start=1) if values[name] >= log_least - math.log(k)), default=0
    )
    return frozenset(ranked[:kept])
