"""What unrelated models answer to the same triggers: mu, sigma and tau per trigger, and the transfer bound.

n null models make a ``1/(n + 1)`` test per trigger and no better one: a suspect that is exchangeable with
them tops all n with that probability. Every row says so, tau never falls below the exact quantile, and
nothing here is ever called "zero false positives". The decision about an endpoint uses the exact p-values;
tau serves the false-match-rate of the paper.
"""

import math
from collections.abc import Mapping
from statistics import fmean, stdev

from pydantic import Field

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.response import ResponseScore, log_exact_pvalue
from sif_offline.fingerprint.schema import FrozenRow


class CalibrationError(SifError):
    """Null models that cannot support the claim asked for."""


class CalibrationRow(FrozenRow):
    """What the null models answered to one trigger; s is the green share G/U of an answer.

    Attributes:
        trigger_id: the trigger.
        n_models: null models with a scored answer to it.
        vocab_size: V.
        green_size: N_g.
        types: smallest U among their answers, for which ``tau`` is quoted.
        mu: mean of s.
        sigma: standard deviation of s (n - 1), never below that of independent text at the mean U: two or
            three models say next to nothing about a spread.
        null_max: largest s.
        alpha: level of the trigger's own exact test.
        tau: ``tau_for(types)``.
        statement: what may be claimed, in words.
    """

    trigger_id: str
    n_models: int = Field(ge=1)
    vocab_size: int = Field(ge=2)
    green_size: int = Field(ge=1)
    types: int = Field(ge=1)
    mu: float
    sigma: float = Field(gt=0)
    null_max: float
    alpha: float = Field(gt=0, lt=1)
    tau: float
    statement: str

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


class Transfer(FrozenRow):
    """How green unrelated models are on triggers that were optimised under their keys: rate gamma + excess.

    Attributes:
        bound: m, to be committed before an audit: ``combine(..., transfer=bound)``; in [0, 1 - gamma).
        level: one-sided confidence of the upper limit.
        excess: (sum G)/(sum U) - gamma over all null answers.
        upper_limit: Student upper limit of the excess, triggers as clusters.
        by_model: null model -> its own excess; ``bound`` is at least the largest.
        statement: what may be claimed, in words.
    """

    bound: float = Field(ge=0, lt=1)
    level: float = Field(gt=0.5, lt=1)
    excess: float
    upper_limit: float
    by_model: dict[str, float]
    statement: str


class Calibration(FrozenRow):
    """Calibration of a pack.

    Attributes:
        null_models: names of the unrelated models, sorted.
        null_weights: null model -> hex sha256 of its weights, where it is known.
        rows: one a trigger, sorted by trigger id.
        transfer: bound of the transfer to unrelated models.
        statement: the summary to print.
    """

    null_models: tuple[str, ...] = Field(min_length=1)
    null_weights: dict[str, str] = Field(default_factory=dict)
    rows: tuple[CalibrationRow, ...] = Field(min_length=1)
    transfer: Transfer
    statement: str

    def row(self, trigger_id: str) -> CalibrationRow | None:
        """The row of ``trigger_id``, None where no null model answered it."""
        return next((row for row in self.rows if row.trigger_id == trigger_id), None)


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


def calibrate(
    null_scores: Mapping[str, Mapping[str, ResponseScore]], *, alpha: float = 0.05, level: float = 0.95
) -> Calibration:
    """Calibrate a pack by the answers of unrelated models.

    Args:
        null_scores: null model -> trigger id -> its score; answers without a scored type count for nothing.
        alpha: level of each trigger's own test, in (0, 1).
        level: one-sided confidence of the transfer bound, in (.5, 1).

    Raises:
        CalibrationError: no scored answer, or null models so green that no rate below 1 bounds them.
        ValueError: answers of different vocabularies.
    """
    answers = {
        model: {trigger: score for trigger, score in scores.items() if score.types}
        for model, scores in null_scores.items()
    }
    silent = sorted(model for model, scores in answers.items() if not scores)
    if silent or not answers:
        raise CalibrationError(f"no scored answer from null model {', '.join(silent) or '(none was given)'}")
    if len({(s.vocab_size, s.green_size) for scores in answers.values() for s in scores.values()}) != 1:
        raise ValueError("null answers of different vocabularies")
    by_trigger: dict[str, list[ResponseScore]] = {}
    for scores in answers.values():
        for trigger_id, score in scores.items():
            by_trigger.setdefault(trigger_id, []).append(score)
    count = len(answers)
    return Calibration(
        null_models=tuple(sorted(answers)),
        rows=tuple(_row(trigger_id, by_trigger[trigger_id], alpha) for trigger_id in sorted(by_trigger)),
        transfer=_transfer(answers, level),
        statement=(
            f"{_models(count)}: topping all of them is a 1/{count + 1} test per trigger, so each tau is "
            f"held at or above the exact {1 - alpha:.4g} quantile; decide by the exact p-values"
        ),
    )


def _row(trigger_id: str, scores: list[ResponseScore], alpha: float) -> CalibrationRow:
    shares = [score.green_share for score in scores]
    vocab_size, greens, n = scores[0].vocab_size, scores[0].green_size, len(scores)
    gamma, mean_types = greens / vocab_size, fmean(score.types for score in scores)
    # V - U is 0 only where an answer used the whole vocabulary
    floor = math.sqrt(gamma * (1 - gamma) / mean_types * max(vocab_size - mean_types, 1) / (vocab_size - 1))
    types, null_max = min(score.types for score in scores), max(shares)
    quantile = exact_quantile(types, vocab_size, greens, alpha=alpha) / types
    tau = max(null_max, quantile)
    held = "the largest null share" if null_max >= quantile else f"the exact {1 - alpha:.4g} quantile"
    return CalibrationRow(
        trigger_id=trigger_id,
        n_models=n,
        vocab_size=vocab_size,
        green_size=greens,
        types=types,
        mu=fmean(shares),
        sigma=max(floor, stdev(shares) if n > 1 else 0.0),
        null_max=null_max,
        alpha=alpha,
        tau=tau,
        statement=f"tau = {tau:.3f} at {types} types is {held}; {_models(n)}: a 1/{n + 1} test",
    )


def _transfer(answers: Mapping[str, Mapping[str, ResponseScore]], level: float) -> Transfer:
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
            f"({_models(len(answers))}, {clusters} triggers, {types} types); "
            f"unrelated-model null: rate at most {gamma + bound:.3f}"
        ),
    )


def _models(count: int) -> str:
    return f"{count} null model{'s' if count > 1 else ''}"
