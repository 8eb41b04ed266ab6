"""Evidence that may be looked at every minute for ever: test martingales over newly seen (trigger, type)
pairs.

E starts at 1 and, under the null, P(ever E >= 1/alpha) <= alpha (Ville 1939); see Howard et al. 2021 and
Waudby-Smith and Ramdas 2024. Natural logs throughout.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from sif_offline.fingerprint.pack_scorer import ScoredToken

GRID_POINTS = 64
SUSPICIOUS = 0.01
"""Anytime p at which an endpoint is called suspicious."""
CONFIRMED = 1e-6
"""Default anytime p at which it is called confirmed (under the unrelated-model null alone)."""

VerdictState = Literal["none", "suspicious", "confirmed"]


def log_evalue_beta(
    *, successes: float, failures: float, gamma: float, a: float = 1.0, b: float = 1.0
) -> float:
    """Closed form of the one-sided Beta(a, b) mixture of bets q > gamma, after S greens and F reds.

    ``ln B(a+S, b+F) - ln B(a,b) + ln[1 - I_gamma(a+S, b+F)] - ln[1 - I_gamma(a,b)] - S ln gamma - F
    ln(1-gamma)``, with the tails in logs. A fast approximation of :class:`EProcess`: it takes the green rate
    to stay gamma, while distinct types are drawn without replacement; its mean exceeds 1 by 3e-4 at V = 4,096
    under the worst stopping rule.

    Args:
        successes: S >= 0, green types so far.
        failures: F >= 0, red types so far.
        gamma: green rate under the null, in (0, 1); gamma0 for the unrelated-model null.
        a: first parameter of the prior, > 0.
        b: second parameter, > 0.
    """
    if successes < 0 or failures < 0 or not 0 < gamma < 1 or a <= 0 or b <= 0:
        raise ValueError(
            f"impossible counts or rate: S={successes}, F={failures}, gamma={gamma}, a={a}, b={b}"
        )
    posterior = _log_beta(a + successes, b + failures) + _log_upper_beta(a + successes, b + failures, gamma)
    prior = _log_beta(a, b) + _log_upper_beta(a, b, gamma)
    return posterior - prior - successes * math.log(gamma) - failures * math.log1p(-gamma)


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
        """
        seen = self._seen.setdefault(trigger_id, {})
        greens = self._greens.get(trigger_id, 0)
        before = len(seen)
        for type_id, green in ((entry[0], entry[1]) for entry in types):
            if green is None or type_id in seen:
                continue
            self._bet(green, (self.green_size - greens) / (self.vocab_size - len(seen)))
            seen[type_id] = green
            greens += green
            # E between two types is as good a moment to stop as any other
            self._max_log_e = max(self._max_log_e, self.log_e)
        self._greens[trigger_id] = greens
        return len(seen) - before

    def _bet(self, green: bool, conditional: float) -> None:
        rate = conditional if self.transfer is None else max(conditional, self._gamma0)
        if not 0 < rate < 1:
            return  # every id left has one colour: nothing to learn
        # a bet below the rate would gain from rates below it, which the composite null contains
        bets = self._bets if self.transfer is None else np.maximum(self._bets, rate)
        self._log_wealth += np.log(bets / rate) if green else np.log((1 - bets) / (1 - rate))

    @property
    def log_e(self) -> float:
        """Log of the current E (the e-value to feed to e-BH)."""
        peak = float(self._log_wealth.max())
        return peak + math.log(float(np.exp(self._log_wealth - peak).mean()))

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


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_upper_beta(a: float, b: float, x: float) -> float:
    """``log(1 - I_x(a, b)) = log I_(1-x)(b, a)``, without underflow."""
    return _log_betainc(b, a, 1 - x)


def _log_betainc(a: float, b: float, x: float) -> float:
    """Log of the regularised incomplete beta function by its continued fraction (DLMF 8.17.22), modified
    Lentz.
    """
    if x > (a + 1) / (a + b + 2):  # converges fast on the other side, where 1 - I is not small
        return math.log1p(-math.exp(_log_betainc(b, a, 1 - x)))
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    fraction = d
    for m in range(1, 100_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + numerator * d) or tiny)
            c = (1 + numerator / c) or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return a * math.log(x) + b * math.log1p(-x) - math.log(a) - _log_beta(a, b) + math.log(fraction)
