"""A rival against the suspects that MetaV is measured on, with a p among the same unrelated models."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sif_offline.metav.evaluation import Evaluation, Suspect, suspects_of
from sif_offline.metav.packing import answers_of
from sif_offline.metav.rivals.base import RivalError
from sif_offline.metav.rivals.forging import Forged
from sif_offline.metav.zoo import Zoo

_EDGE = 1e-12
"""How far from 0 and 1 a score is held, so that its log-odds are finite."""


def evaluate_rival(
    forged: Forged, zoo: Zoo, *, views: Sequence[str], alpha: float = 0.05
) -> tuple[Evaluation, ...]:
    """Score the split ``test`` of a zoo through each view.

    A suspect's p is conformal: its score's rank among those of the negatives of ``calibration``. Where an
    evaluation speaks of log-odds, they are those of the score.

    Args:
        forged: made with the same zoo.
        zoo: with test models of both kinds and negatives for calibration.
        views: of the outputs.
        alpha: p at which a suspect counts as found.

    Raises:
        RivalError: no negatives for calibration.
        ZooError: no test models of both kinds, or a model is damaged or missing.
    """
    rows, held_out = suspects_of(zoo), zoo.of("calibration", "negative")
    if not held_out:
        raise RivalError(f"{zoo.folder}: has no negatives for calibration")
    suspects, negatives = (answers_of(zoo.models(models), forged.queries) for models in (rows, held_out))
    found = []
    for view in views:
        scores = forged.scores(suspects, view)
        as_high = (forged.scores(negatives, view) >= scores[:, None]).sum(-1)
        pvalues = (1 + as_high) / (len(held_out) + 1)
        judged = tuple(
            Suspect.of(row, log_odds=float(odds), pvalue=float(pvalue))
            for row, odds, pvalue in zip(rows, _log_odds(scores), pvalues, strict=True)
        )
        found.append(Evaluation(view, alpha, judged))
    return tuple(found)


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    held = np.clip(scores, _EDGE, 1 - _EDGE)
    found: NDArray[np.float64] = np.log(held) - np.log1p(-held)
    return found
