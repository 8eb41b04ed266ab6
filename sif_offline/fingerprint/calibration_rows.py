"""What a calibration says, as it is kept in ``pack.json``; ``calibration`` makes it.

Fields with a default came later than the first packs, which read as before.
"""

import math
from typing import Annotated

from pydantic import Field, StringConstraints

from sif_offline.fingerprint.response import ResponseScore, log_exact_pvalue
from sif_offline.fingerprint.schema import FrozenRow


def exact_quantile(types: int, vocab_size: int, green_size: int, *, alpha: float) -> int:
    """Smallest g with P(G >= g) <= alpha for U = ``types`` types of independent text; U + 1 where there is
    none.
    """
    low, high = 0, types + 1
    while low < high:
        middle = (low + high) // 2
        log_p = log_exact_pvalue(greens=middle, types=types, vocab_size=vocab_size, green_size=green_size)
        low, high = (low, middle) if log_p <= math.log(alpha) else (middle + 1, high)
    return low


class CalibrationRow(FrozenRow):
    """What the null models answered to one trigger; s is the green share G/U of an answer.

    Where the trigger has several wordings, ``mu``, the sigmas and ``null_max`` are the largest over them: a
    calibrated z, if positive, is then no larger than under the wording that was asked.

    Attributes:
        trigger_id: the trigger.
        n_models: null models with a scored answer to it.
        vocab_size: V.
        green_size: N_g.
        types: smallest U among their answers, for which ``tau`` is quoted.
        mu: mean of s.
        sigma: standard deviation of s (n - 1), never below that of independent text at the mean U: two or
            three models say next to nothing about a spread.
        sigma_pooled: the same with the spread pooled over all triggers, ``sigma_text sqrt(max(1,
            dispersion))`` (see :class:`Calibration`); None where it was not computed.
        null_max: largest s.
        alpha: level of the trigger's own exact test.
        tau: ``tau_for(types)``.
        statement: what may be claimed, in words.
        wordings: other wordings of the prompt that every null model was asked too, beside the trigger's own;
            not written where there are none.
    """

    trigger_id: str
    n_models: int = Field(ge=1)
    vocab_size: int = Field(ge=2)
    green_size: int = Field(ge=1)
    types: int = Field(ge=1)
    mu: float
    sigma: float = Field(gt=0)
    sigma_pooled: float | None = Field(default=None, gt=0)
    null_max: float
    alpha: float = Field(gt=0, lt=1)
    tau: float
    statement: str
    wordings: tuple[str, ...] = Field(default=(), exclude_if=lambda wordings: not wordings)

    def tau_for(self, types: int) -> float:
        """Threshold of s for an answer of ``types`` types: the null models' maximum or the exact quantile,
        the larger.

        The quantile is the smallest share g/U with P(G >= g) <= alpha; above 1 where U is too small for any.
        """
        return max(
            self.null_max,
            exact_quantile(types, self.vocab_size, self.green_size, alpha=self.alpha) / max(types, 1),
        )

    def exceeded_by(self, score: ResponseScore) -> bool:
        """Whether the answer tops every null model and its own exact p is <= alpha."""
        return score.green_share > self.null_max and score.log_pvalue <= math.log(self.alpha)

    def calibrated_z(self, score: ResponseScore) -> float:
        """The paper's z, (s - mu)/sigma; not the displayed z, and not N(0,1) for a handful of null models."""
        return (score.green_share - self.mu) / self.sigma

    def pooled_z(self, score: ResponseScore) -> float:
        """The same with ``sigma_pooled`` (``sigma`` where that is missing): steadier, and no N(0,1) either,
        as mu is still the mean of n models.
        """
        return (score.green_share - self.mu) / (self.sigma_pooled or self.sigma)


class Transfer(FrozenRow):
    """How green unrelated models are on triggers that were optimised under their keys: rate gamma + excess.

    Attributes:
        bound: m, to be committed before an audit: ``combine(..., transfer=bound)``; in [0, 1 - gamma).
        level: one-sided confidence of the upper limit.
        excess: (sum G)/(sum U) - gamma over all null answers.
        upper_limit: Student upper limit of the excess, triggers as clusters.
        by_model: null model -> its own excess; ``bound`` is at least the largest.
        statement: what may be claimed, in words.
        by_wording: where triggers have several wordings, the bound by way of asking
            (``calibration_wordings.ways_of_asking``); ``bound`` is the largest, the other figures belong to
            it. Not written where there is one wording.
    """

    bound: float = Field(ge=0, lt=1)
    level: float = Field(gt=0.5, lt=1)
    excess: float
    upper_limit: float
    by_model: dict[str, float]
    statement: str
    by_wording: dict[str, float] = Field(default_factory=dict, exclude_if=lambda bounds: not bounds)


class HeldOut(FrozenRow):
    """One null model judged by a calibration on the others alone, as if it were an endpoint.

    Attributes:
        model: the null model held out.
        n_others: null models that judged it.
        triggers: its scored answers to triggers that some other answered too.
        exceeded: how many of them top all others with an exact p <= alpha (``CalibrationRow.exceeded_by``),
            under whichever wording.
        bound: transfer bound of the others; None where no rate below 1 bounds them.
        pvalue: its combined p against "unrelated model" with that bound; None likewise. Small values say that
            the bound of the others does not hold for this model. Where triggers have several wordings,
            the smallest of the p's by way of asking, which is a warning and no p of its own.
    """

    model: str
    n_others: int = Field(ge=1)
    triggers: int = Field(ge=0)
    exceeded: int = Field(ge=0)
    bound: float | None = Field(default=None, ge=0, lt=1)
    pvalue: float | None = Field(default=None, ge=0, le=1)


class Calibration(FrozenRow):
    """Calibration of a pack.

    Attributes:
        null_models: names of the unrelated models, sorted.
        null_weights: null model -> hex sha256 of its weights, where known.
        rows: one a trigger, sorted by trigger id.
        transfer: bound of the transfer to unrelated models.
        dispersion: Pearson's chi-squared of the null answers around their triggers' means, over its degrees
            of freedom (McCullagh and Nelder 1989, section 4.5): 1 for answers that vary as independent text
            does. None without degrees of freedom.
        dispersion_degrees: those degrees, ``sum (n_i - 1)`` over triggers.
        held_out: each null model judged by the others, sorted by name; empty with a single one.
        claimed_fmr: false-match rate of tau that was asked for and that n models can support; None without.
        statement: the summary to print.
    """

    null_models: tuple[str, ...] = Field(min_length=1)
    null_weights: dict[str, Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]] = Field(
        default_factory=dict
    )
    rows: tuple[CalibrationRow, ...] = Field(min_length=1)
    transfer: Transfer
    dispersion: float | None = Field(default=None, ge=0)
    dispersion_degrees: int = Field(default=0, ge=0)
    held_out: tuple[HeldOut, ...] = ()
    claimed_fmr: float | None = Field(default=None, gt=0, lt=1)
    statement: str

    def row(self, trigger_id: str) -> CalibrationRow | None:
        """The row of ``trigger_id``, None where no null model answered it."""
        return next((row for row in self.rows if row.trigger_id == trigger_id), None)
