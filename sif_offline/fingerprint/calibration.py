"""What unrelated models answer to the same triggers: mu, sigma and tau per trigger, and the transfer bound.

n null models make a ``1/(n + 1)`` test per trigger and no better one: a suspect that is exchangeable with
them tops all n with that probability. Every row says so, tau never falls below the exact quantile, and
nothing here is ever called "zero false positives". The decision about an endpoint uses the exact p-values;
tau serves the false-match-rate of the paper. Each null model is also held out in turn and judged by the
others, so that a reader sees whether the bound holds for a model that calibration did not see.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from sif_offline.fingerprint.calibration_estimates import (
    CalibrationError,
    calibration_row,
    dispersion_of,
    models_words,
)
from sif_offline.fingerprint.calibration_rows import (
    Calibration,
    CalibrationRow,
    HeldOut,
    Transfer,
    exact_quantile,
)
from sif_offline.fingerprint.calibration_wordings import (
    GivenAnswers,
    NullAnswers,
    TriggerAnswers,
    asked_wordings,
    by_trigger,
    scored_answers,
    transfer_over,
    ways_of_asking,
)
from sif_offline.fingerprint.combining import combine

__all__ = [
    "Calibration",
    "CalibrationError",
    "CalibrationRow",
    "HeldOut",
    "Transfer",
    "TriggerAnswers",
    "calibrate",
    "check_claims",
    "exact_quantile",
]


def check_claims(*, models: int, alpha: float, level: float, claim_fmr: float | None = None) -> None:
    """Refuse what so many null models cannot support, before any of them has to answer.

    Args:
        models: n.
        alpha: level of each trigger's own exact test, in (0, 1).
        level: one-sided confidence of the transfer bound, in (.5, 1).
        claim_fmr: false-match rate that shall be claimed of tau; at least 1/(n + 1).

    Raises:
        CalibrationError: a number out of range, or a rate that takes more null models than there are.
    """
    if not 0 < alpha < 1:
        raise CalibrationError(f"alpha {alpha:g}: the level of a trigger's test lies between 0 and 1")
    if not 0.5 < level < 1:
        raise CalibrationError(f"level {level:g}: the confidence of the transfer bound lies between .5 and 1")
    if claim_fmr is None:
        return
    if not 0 < claim_fmr < 1:
        raise CalibrationError(f"false-match rate {claim_fmr:g}: lies between 0 and 1")
    if claim_fmr * (models + 1) < 1 - 1e-9:
        needed = math.ceil(1 / claim_fmr - 1 - 1e-9)
        raise CalibrationError(
            f"{models_words(models)}: no false-match rate below 1/{models + 1} = {1 / (models + 1):.3g} "
            f"can be claimed of tau; {claim_fmr:g} needs {needed} null models"
        )


def calibrate(
    null_scores: GivenAnswers,
    *,
    alpha: float = 0.05,
    level: float = 0.95,
    null_weights: Mapping[str, str] | None = None,
    claim_fmr: float | None = None,
) -> Calibration:
    """Calibrate a pack by the answers of unrelated models.

    Args:
        null_scores: null model -> trigger id -> its score, or its scores under several wordings; answers
            without a scored type count for nothing.
        alpha: level of each trigger's own test, in (0, 1).
        level: one-sided confidence of the transfer bound, in (.5, 1).
        null_weights: null model -> hex sha256 of its weights, kept in the calibration.
        claim_fmr: false-match rate that tau shall be claimed to keep; refused below 1/(n + 1), n the fewest
            null models that answered one trigger.

    Raises:
        CalibrationError: no scored answer, null models so green that no rate below 1 bounds them, two with
            the same weights, or whatever :func:`check_claims` refuses.
        ValueError: answers of different vocabularies or to different wordings, or weights of a model that
            gave no answers.
    """
    check_claims(models=len(null_scores), alpha=alpha, level=level)
    weights = dict(null_weights or {})
    if not weights.keys() <= null_scores.keys():
        raise ValueError("weights of a model that is no null model")
    if len(set(weights.values())) < len(weights):
        raise CalibrationError("two null models have the same weights: they count as one")
    asked, answers = asked_wordings(null_scores), scored_answers(null_scores)
    silent = sorted(model for model, scores in answers.items() if not scores)
    if silent or not answers:
        raise CalibrationError(f"no scored answer from null model {', '.join(silent) or '(none was given)'}")
    groups = by_trigger(answers)
    if len({(s.vocab_size, s.green_size) for own in groups.values() for group in own for s in group}) != 1:
        raise ValueError("null answers of different vocabularies")
    fewest = min(len(group) for own in groups.values() for group in own)
    check_claims(models=fewest, alpha=alpha, level=level, claim_fmr=claim_fmr)
    dispersion, degrees = dispersion_of(own[0] for own in groups.values())
    held_out = _hold_out(answers, asked, alpha=alpha, level=level)
    claim = "" if claim_fmr is None else f"; claimed of tau: a false-match rate of {claim_fmr:g} per trigger"
    count = len(answers)
    return Calibration(
        null_models=tuple(sorted(answers)),
        null_weights=weights,
        rows=tuple(
            calibration_row(trigger_id, own, alpha, dispersion, wordings=asked[trigger_id])
            for trigger_id, own in sorted(groups.items())
        ),
        transfer=transfer_over(answers, asked, level),
        dispersion=dispersion,
        dispersion_degrees=degrees,
        held_out=held_out,
        claimed_fmr=claim_fmr,
        statement=(
            f"{models_words(count)}: topping all of them is a 1/{count + 1} test per trigger, so each tau is "
            f"held at or above the exact {1 - alpha:.4g} quantile; decide by the exact p-values{claim}; "
            f"{_held_out_words(held_out, level)}"
        ),
    )


def _hold_out(
    answers: NullAnswers, asked: Mapping[str, tuple[str, ...]], *, alpha: float, level: float
) -> tuple[HeldOut, ...]:
    """Each null model in turn, judged by the rows and the bound of the others; nothing with a single one."""
    if len(answers) < 2:
        return ()
    found = []
    for model, own in sorted(answers.items()):
        others = {name: scores for name, scores in answers.items() if name != model}
        rows = {
            trigger_id: calibration_row(trigger_id, groups, alpha, None)
            for trigger_id, groups in by_trigger(others).items()
            if trigger_id in own
        }
        try:
            bound: float | None = transfer_over(others, asked, level).bound
        except CalibrationError:
            bound = None
        found.append(
            HeldOut(
                model=model,
                n_others=len(others),
                triggers=len(rows),
                exceeded=sum(
                    any(map(row.exceeded_by, own[trigger_id].scores.values()))
                    for trigger_id, row in rows.items()
                ),
                bound=bound,
                pvalue=None if bound is None else _pvalue({model: own}, others, asked, bound),
            )
        )
    return tuple(found)


def _pvalue(
    own: NullAnswers, others: NullAnswers, asked: Mapping[str, tuple[str, ...]], bound: float
) -> float:
    """The smallest over the ways of asking; the greenest wordings are those of the others."""
    return min(
        combine(
            [replace(score, trigger_id=trigger_id) for trigger_id, score in scores.items()], transfer=bound
        ).pvalue
        for way in ways_of_asking(own, asked, chosen_by=others).values()
        for scores in way.values()
    )


def _held_out_words(held_out: tuple[HeldOut, ...], level: float) -> str:
    if not held_out:
        return "with one null model it cannot be checked whether the bound holds for another"
    beyond = [row.model for row in held_out if row.pvalue is not None and row.pvalue <= 1 - level]
    names = f" ({', '.join(beyond)})" if beyond else ""
    return (
        f"held out in turn, {len(beyond)} of {len(held_out)} null models{names} "
        f"pass the others' bound at p <= {1 - level:.4g}"
    )
