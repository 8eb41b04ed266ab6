"""Outputs in, an honest p out.

A suspect is compared with n independently trained models that nothing was fitted to. If it is one more of
their kind, its rank among them is uniform, so ``p = (1 + #{negatives as high}) / (n + 1)`` is a p-value, and
never below ``1 / (n + 1)``, however often it is asked: more rounds take noise from the outputs and are no
further draws of a model. (Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005.)
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.metav.pack import MetaVPack
from sif_offline.fingerprint.metav.views import seen_through

SUSPICIOUS = 0.05
"""The p at which a target is worth a look."""
_ROUNDING = 1e-5
"""By how much a float32 softmax may leave [0, 1]."""
_LARGEST = 1e6
"""Log-odds beyond that are of no model that the verifier was made for."""
_SAME = 1e-9
"""By how much the means of equal answers may differ."""


class MetaVError(SifError):
    """Outputs or settings that a pack cannot be scored with."""


@dataclass(frozen=True)
class MetaVScore:
    """What outputs amount to.

    Attributes:
        log_odds: of the verifier, natural logarithm; above 0 it takes the model for the owner's.
        pvalue: conformal, in [1/(n + 1), 1].
        negatives: n.
    """

    log_odds: float
    pvalue: float
    negatives: int

    @property
    def floor(self) -> float:
        """The smallest p that so many negatives can give."""
        return 1 / (self.negatives + 1)


class MetaVScorer:
    """Scores the outputs of a suspect to a pack's queries, through the view that its API gives.

    Args:
        pack: a pack with its files.
        view: ``full``, or what the API leaves of an output; see :mod:`sif_offline.fingerprint.metav.views`.

    Raises:
        MetaVError: the pack has no negatives through that view.
    """

    def __init__(self, pack: MetaVPack, *, view: str = "full") -> None:
        if view not in pack.held_out.negatives:
            known = ", ".join(sorted(pack.held_out.negatives))
            raise MetaVError(f"pack {pack.pack_id}: has no negatives through view {view!r}, only {known}")
        self.pack, self.view = pack, view
        self._verifier = pack.meta_verifier
        self._negatives = np.asarray(pack.held_out.negatives[view])

    def score(self, outputs: ArrayLike) -> MetaVScore:
        """Score outputs ``(N, size)``, in the order of the pack's queries.

        One answer to all of several queries is no sign of anything: its p is 1, whatever its log-odds.

        Raises:
            MetaVError: outputs of another shape, not finite or no probabilities where the pack has them, or
                so large that their log-odds are beyond a million.
        """
        values = np.asarray(outputs, dtype=np.float64)
        if values.shape != (len(self.pack.queries), self.pack.output.size) or not np.isfinite(values).all():
            raise MetaVError(
                f"pack {self.pack.pack_id}: outputs must be {len(self.pack.queries)} x "
                f"{self.pack.output.size} finite numbers"
            )
        if self.pack.output.kind == "probabilities" and not (np.abs(values - 0.5) <= 0.5 + _ROUNDING).all():
            raise MetaVError(f"pack {self.pack.pack_id}: outputs must be probabilities, between 0 and 1")
        seen = seen_through(values, self.view)
        with np.errstate(over="ignore", invalid="ignore"):
            found = float(self._verifier.log_odds(seen))
        if not abs(found) <= _LARGEST:  # NaN too; what no page could draw ranks above every negative
            raise MetaVError(f"pack {self.pack.pack_id}: outputs too large to score")
        count = len(self._negatives)
        as_high = int((self._negatives >= found).sum())
        # the commonest broken endpoint may score anything; to rank it lowest leaves p valid for every model
        if len(seen) > 1 and np.ptp(seen, axis=0).max() <= _SAME:
            as_high = count
        return MetaVScore(found, (1 + as_high) / (count + 1), count)


def metav_verdict(score: MetaVScore, *, alpha: float | None) -> Literal["none", "suspicious", "confirmed"]:
    """What a score says at the operator's ``alpha``; "confirmed" only where n negatives can support it.

    Without an alpha, or with one below the floor, a target is suspicious at most.
    """
    if alpha is not None and alpha >= score.floor and score.pvalue <= alpha:
        return "confirmed"
    return "suspicious" if score.pvalue <= SUSPICIOUS else "none"
