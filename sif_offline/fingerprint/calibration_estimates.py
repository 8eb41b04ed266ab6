"""Estimates from the answers of null models: spread, the row of a trigger, the transfer bound."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from sif_offline.fingerprint.calibration_rows import CalibrationRow, Transfer, exact_quantile
from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.response import ResponseScore

Answers = Mapping[str, Mapping[str, ResponseScore]]
"""Null model -> trigger id -> score, with at least one type each."""


class CalibrationError(SifError):
    """Null models that cannot support the claim asked for."""


def _text_variance(vocab_size: int, green_size: int, types: float) -> float:
    """Variance of the green share of independent text with ``types`` types."""
    gamma = green_size / vocab_size
    # V - U is 0 only where an answer used the whole vocabulary
    return gamma * (1 - gamma) / types * max(vocab_size - types, 1) / (vocab_size - 1)


def dispersion_of(by_trigger: Iterable[list[ResponseScore]]) -> tuple[float | None, int]:
    """Pearson's chi-squared over its degrees of freedom, and those.

    ``sum_i sum_j (s_ij - p_i)^2 / v_ij`` over triggers i and null models j, p_i the share of the trigger's
    pooled types, v_ij the variance of independent text with U_ij types; degrees ``sum_i (n_i - 1)``. One
    trigger's n answers are a poor estimate of a spread (n is 2 to 8); all triggers' together are a fair one.
    """
    squares, degrees = [], 0
    for scores in by_trigger:
        share = sum(s.greens for s in scores) / sum(s.types for s in scores)
        squares += [
            (s.green_share - share) ** 2 / _text_variance(s.vocab_size, s.green_size, s.types) for s in scores
        ]
        degrees += len(scores) - 1
    return (math.fsum(squares) / degrees if degrees else None), degrees


def calibration_row(
    trigger_id: str,
    groups: Sequence[list[ResponseScore]],
    alpha: float,
    dispersion: float | None,
    *,
    wordings: tuple[str, ...] = (),
) -> CalibrationRow:
    """The row of one trigger from the null models' answers to each wording of its prompt: mu, sigma and the
    maximum are the largest over wordings.
    """
    vocab_size, greens, n = groups[0][0].vocab_size, groups[0][0].green_size, min(map(len, groups))
    floors = [
        math.sqrt(_text_variance(vocab_size, greens, fmean(score.types for score in scores)))
        for scores in groups
    ]
    shares = [[score.green_share for score in scores] for scores in groups]
    types = min(score.types for scores in groups for score in scores)
    null_max = max(map(max, shares))
    quantile = exact_quantile(types, vocab_size, greens, alpha=alpha) / types
    tau = max(null_max, quantile)
    held = "the largest null share" if null_max >= quantile else f"the exact {1 - alpha:.4g} quantile"
    return CalibrationRow(
        trigger_id=trigger_id,
        n_models=n,
        vocab_size=vocab_size,
        green_size=greens,
        types=types,
        mu=max(map(fmean, shares)),
        sigma=max(*floors, *(stdev(group) if len(group) > 1 else 0.0 for group in shares)),
        sigma_pooled=max(floors) * math.sqrt(max(1.0, dispersion or 0.0)),
        null_max=null_max,
        alpha=alpha,
        tau=tau,
        statement=f"tau = {tau:.3f} at {types} types is {held}; {models_words(n)}: a 1/{n + 1} test",
        wordings=wordings,
    )


def transfer_of(answers: Answers, level: float) -> Transfer:
    """Ratio estimate of the excess with triggers as clusters: one trigger's answers share a key, two
    triggers' do not.

    The standard error is at least that of independent text; with one trigger it is that of one answer, as if
    all models had said the same. The bound is at least the excess of the greenest model: the limit speaks
    of these null models' mean, and the next unrelated model may be like the worst of them.
    """
    from scipy.special import stdtrit

    scores = [score for by_trigger in answers.values() for score in by_trigger.values()]
    gamma = scores[0].green_size / scores[0].vocab_size
    types = sum(score.types for score in scores)
    excess = sum(score.greens for score in scores) / types - gamma
    by_model = {
        model: sum(s.greens for s in own.values()) / sum(s.types for s in own.values()) - gamma
        for model, own in sorted(answers.items())
    }
    residuals: dict[str, float] = {}
    for own in answers.values():
        for trigger_id, score in own.items():
            residual = score.greens - score.types * (gamma + excess)
            residuals[trigger_id] = residuals.get(trigger_id, 0.0) + residual
    clusters = len(residuals)
    floor = math.sqrt(gamma * (1 - gamma) / (types if clusters > 1 else types / len(scores)))
    spread = math.sqrt(math.fsum(r * r for r in residuals.values()) * clusters / max(clusters - 1, 1)) / types
    # one cluster leaves no degree of freedom, and a known spread needs none
    degrees = clusters - 1 if clusters > 1 else math.inf
    upper = excess + float(stdtrit(degrees, level)) * max(floor, spread)
    bound = max(0.0, upper, *by_model.values())
    if gamma + bound >= 1:
        raise CalibrationError(
            f"null models answer {gamma + excess:.0%} green: no rate below 1 can be claimed to bound them"
        )
    return Transfer(
        bound=bound,
        level=level,
        excess=excess,
        upper_limit=upper,
        by_model=by_model,
        statement=(
            f"unrelated models are green at {gamma:.3f} {excess:+.3f} on these triggers "
            f"({models_words(len(answers))}, {clusters} triggers, {types} types); "
            f"unrelated-model null: rate at most {gamma + bound:.3f}"
        ),
    )


def models_words(count: int) -> str:
    return f"{count} null model{'s' if count > 1 else ''}"
