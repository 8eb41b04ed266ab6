"""Which answers count as a match.

A target phrase matches when all its keywords are there. An answer under a green list matches when it passes
the trigger's own tau: greener than every unrelated model's answer to the same trigger, with an exact p of at
most alpha. An unrelated model is judged by the others alone.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sif_offline.evaluation.rows import Row
from sif_offline.fingerprint.calibration_estimates import calibration_row
from sif_offline.fingerprint.response import ResponseScore

ByTrigger = Mapping[str, Row]


def score_of(row: Row) -> ResponseScore:
    """The green-list score of a row that has one."""
    return ResponseScore.from_counts(
        greens=row.greens,
        types=row.types,
        vocab_size=row.vocab_size,
        green_size=row.green_size,
        trigger_id=row.trigger,
    )


def passes_tau(score: ResponseScore, others: Sequence[ResponseScore], *, alpha: float) -> bool:
    """Whether an answer tops all ``others`` and its own exact p is at most ``alpha``.

    Args:
        score: of the answer.
        others: of unrelated models to the same trigger; without any the exact test alone decides.
        alpha: in (0, 1).
    """
    scored = [other for other in others if other.types]
    if not score.types:
        return False
    if not scored:
        return score.log_pvalue <= math.log(alpha)
    return calibration_row(score.trigger_id, [scored], alpha, None).exceeded_by(score)


def matches(
    rows: ByTrigger, unrelated: Mapping[str, ByTrigger], *, triggers: Sequence[str], alpha: float
) -> NDArray[np.bool_]:
    """Which answers of one suspect match.

    Args:
        rows: the suspect's, by trigger.
        unrelated: unrelated model -> its rows by trigger; never the suspect's own.
        triggers: in this order.
        alpha: level of each trigger's own exact test.

    Returns:
        bool ``(triggers,)``.
    """
    found = []
    for trigger in triggers:
        row = rows[trigger]
        if row.matched is not None:
            found.append(row.matched)
            continue
        others = [score_of(own[trigger]) for own in unrelated.values() if trigger in own]
        found.append(passes_tau(score_of(row), others, alpha=alpha))
    return np.array(found, dtype=bool)
