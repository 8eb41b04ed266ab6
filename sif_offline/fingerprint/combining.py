"""Many triggers, one endpoint: Stouffer, Fisher and the exact pooled test, under either null hypothesis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sif_offline.fingerprint.response import ResponseScore
from sif_offline.fingerprint.tails import binomial, hypergeometric, log_tail_of_sum

INDEPENDENT_TEXT = "independent text"
"""Null hypothesis "green rate = gamma"; rejecting it shows that the answer depends on the key, no more."""
UNRELATED_MODEL = "unrelated model"
"""Null hypothesis "green rate <= gamma0 = gamma + m"; only its rejection may ever read "confirmed"."""


@dataclass(frozen=True)
class CombinedScore:
    """One verdict over the answers to several triggers.

    Attributes:
        null: the null hypothesis, :data:`INDEPENDENT_TEXT` or :data:`UNRELATED_MODEL`.
        gamma0: green rate under it.
        answers: triggers combined (after pooling repeats), answers without a scored type included.
        types: sum of U.
        greens: sum of G.
        stouffer_z: ``sum sqrt(U_i) z_i / sqrt(sum U_i)``.
        stouffer_pvalue: its upper normal tail, approximate.
        fisher_pvalue: chi-squared tail of ``-2 sum log p_i``; conservative, as each discrete p_i is
            super-uniform.
        pvalue: the pooled test on sum G, in [0, 1].
        log_pvalue: its natural log.
        keys_tried: M, sets of keys ever tried on these texts; 1 where the keys were committed before.
        adjusted_pvalue: ``1 - (1 - pvalue)^M`` (Sidak 1967), the number to decide by; ``pvalue`` for M = 1.
        adjusted_log_pvalue: its natural log.
    """

    null: str
    gamma0: float
    answers: int
    types: int
    greens: int
    stouffer_z: float
    stouffer_pvalue: float
    fisher_pvalue: float
    pvalue: float
    log_pvalue: float
    keys_tried: int
    adjusted_pvalue: float
    adjusted_log_pvalue: float


def combine(
    scores: Sequence[ResponseScore], *, transfer: float | None = None, keys_tried: int = 1
) -> CombinedScore:
    """Combine the scores of different triggers of one pack.

    Without ``transfer`` the test is of "independent text". Given the texts, independent keys make the G_i
    independent hypergeometric counts, and p = P(sum G_i >= observed) under the convolution of hypergeom(V,
    N_g, U_i), one per key: exact. (``hypergeom(V, N_g, sum U)`` would be 8 to 800 times too small.)

    With ``transfer = m >= 0`` it is of "unrelated model", a composite null: a trigger was optimised under its
    key, so an unrelated model's answer to it may be green at any rate up to gamma0 = gamma + m. Then p is the
    larger of the exact p above and P(Binomial(sum U, gamma0) >= sum G). Why the binomial bounds the count:

    - If each newly seen type, given all before it, is green with probability at most gamma0, then drawing
      each from the same uniform number couples sum G below Binomial(sum U, gamma0). Independent text meets
      this as long as N_g/(V - U) <= gamma0, and beyond that the exact p in the maximum covers it.
    - If the types are independent with unequal rates that only average to at most gamma0, the same tail
      bounds theirs for every sum G >= 1 + gamma0 sum U (Hoeffding 1956, theorem 4), which is wherever p is
      small.

    It does not hold if one draw decides many types at once at a high rate (an innocent that was trained on
    the owner's answers is not "unrelated"). Each z_i and p_i of Stouffer and Fisher uses gamma0 in the same
    way.

    Args:
        scores: one score a trigger; repeats of a trigger are pooled before (``pool_ids``,
            ``PackScorer.score``).
        transfer: m, committed before the audit (``Calibration.transfer.bound``), with gamma + m < 1; None
            for "independent text".
        keys_tried: sets of keys that were ever tried on these texts, these included, whatever became of
            them; keys committed before the audit are 1.

    Raises:
        ValueError: two scores of one trigger, different vocabularies, an impossible ``transfer``, or
            ``keys_tried`` below 1.
    """
    if not scores:
        raise ValueError("no scores to combine")
    named = [score.trigger_id for score in scores if score.trigger_id]
    if len(set(named)) < len(named):
        raise ValueError("two scores of one trigger: pool the repeats first")
    sizes = {(score.vocab_size, score.green_size) for score in scores}
    if len(sizes) != 1:
        raise ValueError("scores of different vocabularies do not combine")
    vocab_size, green_size = sizes.pop()
    gamma0 = green_size / vocab_size + (transfer or 0.0)
    if (transfer is not None and transfer < 0) or not 0 < gamma0 < 1:
        raise ValueError(f"transfer {transfer} puts gamma0 = {gamma0} outside gamma .. 1")
    types, greens = sum(score.types for score in scores), sum(score.greens for score in scores)
    log_p = log_tail_of_sum([hypergeometric(vocab_size, green_size, score.types) for score in scores], greens)
    z_scores, log_ps = [score.z for score in scores], [score.log_pvalue for score in scores]
    if transfer is not None:
        log_p = max(log_p, binomial(types, gamma0).log_tail(greens))
        spread = math.sqrt(gamma0 * (1 - gamma0))
        z_scores = [
            (s.greens - s.types * gamma0) / (math.sqrt(s.types) * spread) if s.types else 0.0 for s in scores
        ]
        log_ps = [max(s.log_pvalue, binomial(s.types, gamma0).log_tail(s.greens)) for s in scores]
    adjusted = sidak_log_pvalue(log_p, tries=keys_tried)
    weighted = sum(math.sqrt(score.types) * z for score, z in zip(scores, z_scores, strict=True))
    stouffer = weighted / math.sqrt(types) if types else 0.0
    return CombinedScore(
        null=INDEPENDENT_TEXT if transfer is None else UNRELATED_MODEL,
        gamma0=gamma0,
        answers=len(scores),
        types=types,
        greens=greens,
        stouffer_z=stouffer,
        stouffer_pvalue=math.erfc(stouffer / math.sqrt(2)) / 2,
        fisher_pvalue=math.exp(log_fisher_pvalue(log_ps)),
        pvalue=math.exp(log_p),
        log_pvalue=log_p,
        keys_tried=keys_tried,
        adjusted_pvalue=math.exp(adjusted),
        adjusted_log_pvalue=adjusted,
    )


def sidak_log_pvalue(log_pvalue: float, *, tries: int) -> float:
    """Log of ``1 - (1 - p)^M``, the p-value of the best of M tries (Sidak 1967), without cancellation.

    Under independent text the keys tried are independent given the text, so this is exact up to the
    discreteness of p; it is never above ``M p`` (Bonferroni), which needs no independence.

    Args:
        log_pvalue: natural log of the smallest p of the tries, in [-inf, 0].
        tries: M >= 1; for 1 the result is ``log_pvalue`` to the last bit.

    Raises:
        ValueError: ``tries`` below 1, or a log above 0.
    """
    if tries < 1 or not log_pvalue <= 0:
        raise ValueError(f"impossible tries or p-value: M={tries}, log p={log_pvalue}")
    if tries == 1 or log_pvalue in (0.0, -math.inf):
        return log_pvalue
    # x = -M log(1 - p) and the result log(1 - e^-x), each in the form that keeps its digits
    p = math.exp(log_pvalue)
    if p < 1e-8:
        log_x = math.log(tries) + log_pvalue + p / 2  # -log(1 - p) = p (1 + p/2 + ...)
    else:
        log_x = math.log(tries) + math.log(-math.log1p(-p) if p < 0.5 else -math.log(-math.expm1(log_pvalue)))
    if log_x < -18:
        return log_x - math.exp(log_x) / 2
    x = math.exp(min(log_x, 700.0))
    return math.log(-math.expm1(-x)) if x < math.log(2) else math.log1p(-math.exp(-x))


def log_fisher_pvalue(log_pvalues: Sequence[float]) -> float:
    """Log of Fisher's combined p (1925): ``P(chi2 with 2n degrees >= -2 sum log p)``, conservative for
    discrete p.

    With an even number of degrees the tail is finite: ``e^-x sum_(j<n) x^j / j!``, ``x = -sum log p``.
    """
    x = -math.fsum(log_pvalues)
    if x <= 0:
        return 0.0
    if math.isinf(x):
        return -math.inf
    terms = [j * math.log(x) - math.lgamma(j + 1) for j in range(len(log_pvalues))]
    peak = max(terms)
    return min(0.0, peak + math.log(math.fsum(math.exp(term - peak) for term in terms)) - x)
