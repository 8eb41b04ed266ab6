"""Perplexity of a prompt under a small language model: of the whole text and of its worst stretch.

The paper's rule (perplexity of the whole prompt) is diluted by an honest question after an optimised
prefix; the worst window of eight tokens is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway_plugin.screening.base import Finding, Phase, Query, Status, worst
from gateway_plugin.screening.language_models.base import LanguageModel

WINDOW = 8  # tokens
SHORT_ALLOWANCE = 14.0  # nats: a mean over k < 8 tokens is allowed 14 (1/k - 1/8) more


@dataclass(frozen=True, kw_only=True)
class PerplexityThresholds:
    """Perplexities (``exp`` of mean nats per token) from which a prompt is a suspect or a hit.

    suspect_window, hit_window: for the worst window of 8 tokens; shorter prompts get the allowance.
    suspect_whole: for the whole text, looked at from ``whole_from_tokens`` tokens on.
    """

    suspect_window: float = 5_000.0
    hit_window: float = 12_000.0
    suspect_whole: float = 3_000.0
    whole_from_tokens: int = 16

    def __post_init__(self) -> None:
        if not 1.0 < self.suspect_window <= self.hit_window:
            raise ValueError("1 < suspect_window <= hit_window does not hold")
        if not (self.suspect_whole > 1.0 and self.whole_from_tokens >= WINDOW):
            raise ValueError(f"suspect_whole must be above 1 and whole_from_tokens at least {WINDOW}")


def worst_window(surprisals: npt.NDArray[np.float32], *, window: int = WINDOW) -> float:
    """The highest mean surprisal, in nats per token, over ``window`` neighbours; shape ``(n,)``, n >= 1.

    Of a text of fewer tokens it is the mean over all of them.
    """
    if len(surprisals) <= window:
        return float(np.mean(surprisals, dtype=np.float64))
    sums = np.concatenate([[0.0], np.cumsum(surprisals, dtype=np.float64)])
    return float(np.max(sums[window:] - sums[:-window]) / window)


def short_allowance(tokens: int) -> float:
    """Nats that a mean over ``min(tokens, 8)`` tokens may lie higher; 0 from eight tokens on."""
    return SHORT_ALLOWANCE * (1 / min(tokens, WINDOW) - 1 / WINDOW)


class PerplexityCheck:
    """Scores every text of a query; the gravest decides."""

    name = "perplexity"
    phase = Phase.REQUEST

    def __init__(
        self,
        *,
        model: LanguageModel,
        thresholds: PerplexityThresholds | None = None,
        max_tokens: int = 1024,
    ) -> None:
        self._model = model
        self._thresholds = thresholds or PerplexityThresholds()
        self._max_tokens = max_tokens

    def score(self, query: Query, response: str | None = None, reference: str | None = None) -> Finding:
        return worst(self.score_texts(query.texts), check=self.name)

    def score_texts(self, texts: Sequence[str], *, allowances: Sequence[float] = ()) -> list[Finding]:
        """One finding a text, in order, scored in shared batches.

        allowances: nats per token by which each text may lie higher (all zero without), for languages that
        the model does not know well.

        Measures: perplexity, worst_window_perplexity, tokens, and adjusted_perplexity and
        adjusted_window_perplexity (allowances taken off, of the window also that for short texts), which are
        held against the thresholds; none of them when the text cannot be scored.
        """
        reasons = [unfit(text) for text in texts]
        fit = [index for index, reason in enumerate(reasons) if not reason]
        scored = self._model.token_surprisals([texts[index] for index in fit], max_tokens=self._max_tokens)
        measured = dict(zip(fit, scored, strict=True))
        return [
            self._judge(*measured[index], allowance=allowances[index] if allowances else 0.0)
            if index in measured
            else self._unscorable(reason)
            for index, reason in enumerate(reasons)
        ]

    def _unscorable(self, reason: str, measures: dict[str, float] | None = None) -> Finding:
        return Finding(check=self.name, status=Status.UNSCORABLE, measures=measures or {}, reason=reason)

    def _judge(self, surprisals: npt.NDArray[np.float32], tokens: int, *, allowance: float) -> Finding:
        if not len(surprisals):
            return self._unscorable("no tokens")
        mean, window = float(np.mean(surprisals, dtype=np.float64)), worst_window(surprisals)
        if not (math.isfinite(mean) and math.isfinite(window)):
            return self._unscorable("perplexity is not a number")
        limits = self._thresholds
        adjusted = math.exp(window - short_allowance(len(surprisals)) - allowance)
        whole = math.exp(mean - allowance)
        measures = {
            "perplexity": math.exp(mean),
            "worst_window_perplexity": math.exp(window),
            "adjusted_perplexity": whole,
            "adjusted_window_perplexity": adjusted,
            "tokens": float(tokens),
        }
        if adjusted >= limits.hit_window:
            return self._found(Status.HIT, "worst window", adjusted, limits.hit_window, measures)
        if adjusted >= limits.suspect_window:
            return self._found(Status.SUSPECT, "worst window", adjusted, limits.suspect_window, measures)
        if len(surprisals) >= limits.whole_from_tokens and whole >= limits.suspect_whole:
            return self._found(Status.SUSPECT, "whole text", whole, limits.suspect_whole, measures)
        if len(surprisals) < tokens:
            return self._unscorable(f"{len(surprisals)} of {tokens} tokens scored", measures)
        return Finding(check=self.name, status=Status.CLEAR, measures=measures)

    def _found(
        self, status: Status, part: str, value: float, limit: float, measures: dict[str, float]
    ) -> Finding:
        reason = f"perplexity of the {part} {value:,.0f} >= {limit:,.0f}"
        return Finding(check=self.name, status=status, measures=measures, reason=reason)


def unfit(text: str) -> str:
    """Why no language model can score the text; empty when one can."""
    if not text.strip():
        return "empty text"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "not valid Unicode"
    return ""
