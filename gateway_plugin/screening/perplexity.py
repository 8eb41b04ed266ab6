"""Perplexity of a prompt under a small language model: of its worst window and of its worst stretch.

The paper's rule (perplexity of the whole prompt) is diluted by an honest question after an optimised
prefix; the worst window of eight tokens is not. But every honest text has its strange eight tokens if it is
long enough: a page of code or of a manual has some beyond the limit of a question. So that limit rises with
the text's length, and a stretch of 24 tokens, which no honest page reaches, has a limit of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway_plugin.screening.base import Finding, Phase, Query, Status, worst
from gateway_plugin.screening.language_models.base import LanguageModel

WINDOW, STRETCH = 8, 24  # tokens
STRETCH_FROM = 16  # tokens: the mean over fewer is left to the window's rule
LONG_FROM = 64  # tokens
# Nats per token by which the window may lie higher for every factor e in a text's length beyond 64 tokens: of
# code, manuals and licences the share of windows beyond a limit falls by e in 2/3 of a nat.
LONG_ALLOWANCE = 2 / 3
SHORT_ALLOWANCE = 14.0  # nats: a mean over k < 8 tokens is allowed 14 (1/k - 1/8) more


@dataclass(frozen=True, kw_only=True)
class PerplexityThresholds:
    """Perplexities (``exp`` of mean nats per token) from which a prompt is a suspect or a hit.

    suspect_window, hit_window: for the worst window of 8 tokens; shorter and longer prompts get allowances.
    suspect_stretch, hit_stretch: for the worst stretch of 24 tokens, or all of 16 to 23.
    """

    suspect_window: float = 5_000.0
    hit_window: float = 12_000.0
    suspect_stretch: float = 3_000.0
    hit_stretch: float = 4_500.0

    def __post_init__(self) -> None:
        for part in ("window", "stretch"):
            if not 1.0 < getattr(self, f"suspect_{part}") <= getattr(self, f"hit_{part}"):
                raise ValueError(f"1 < suspect_{part} <= hit_{part} does not hold")


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


def long_allowance(tokens: int) -> float:
    """Nats by which the worst window of a text of so many tokens may lie higher; 0 up to 64 tokens."""
    return LONG_ALLOWANCE * math.log(max(tokens, LONG_FROM) / LONG_FROM)


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

    def score_texts(
        self, texts: Sequence[str], *, allowances: Sequence[float] = (), wholes: Sequence[int] = ()
    ) -> list[Finding]:
        """One finding a text, in order, scored in shared batches.

        allowances: nats per token by which each text may lie higher (all zero without), for languages that
        the model does not know well.
        wholes: characters of the text that each was taken out of, where it is a part.

        Measures: perplexity, worst_window_perplexity, worst_stretch_perplexity, tokens, and with all
        allowances taken off adjusted_window_perplexity and adjusted_stretch_perplexity, which are held
        against the thresholds; none of them when the text cannot be scored.
        """
        reasons = [unfit(text) for text in texts]
        fit = [index for index, reason in enumerate(reasons) if not reason]
        scored = self._model.token_surprisals([texts[index] for index in fit], max_tokens=self._max_tokens)
        found = [self._unscorable(reason) for reason in reasons]
        for index, (surprisals, tokens) in zip(fit, scored, strict=True):
            share = wholes[index] / len(texts[index]) if wholes else 1.0
            allowance = allowances[index] if allowances else 0.0
            found[index] = self._judge(surprisals, tokens, allowance=allowance, whole=int(tokens * share))
        return found

    def _unscorable(self, reason: str, measures: dict[str, float] | None = None) -> Finding:
        return Finding(check=self.name, status=Status.UNSCORABLE, measures=measures or {}, reason=reason)

    def _judge(
        self, surprisals: npt.NDArray[np.float32], tokens: int, *, allowance: float, whole: int
    ) -> Finding:
        """``whole``: tokens of the text that this is all or a part of."""
        if not len(surprisals):
            return self._unscorable("no tokens")
        window, stretch = worst_window(surprisals), worst_window(surprisals, window=STRETCH)
        if not (math.isfinite(window) and math.isfinite(stretch)):
            return self._unscorable("perplexity is not a number")
        adjusted = window - short_allowance(len(surprisals)) - long_allowance(whole) - allowance
        limits = self._thresholds
        measures = {
            "perplexity": math.exp(float(np.mean(surprisals, dtype=np.float64))),
            "worst_window_perplexity": math.exp(window),
            "worst_stretch_perplexity": math.exp(stretch),
            "adjusted_window_perplexity": math.exp(adjusted),
            "adjusted_stretch_perplexity": math.exp(stretch - allowance),
            "tokens": float(tokens),
        }
        rules = [
            (Status.HIT, "window", limits.hit_window, 1),
            (Status.HIT, "stretch", limits.hit_stretch, STRETCH),
            (Status.SUSPECT, "window", limits.suspect_window, 1),
            (Status.SUSPECT, "stretch", limits.suspect_stretch, STRETCH_FROM),
        ]
        for status, part, limit, least in rules:
            value = measures[f"adjusted_{part}_perplexity"]
            if value >= limit and len(surprisals) >= least:
                reason = f"perplexity of the worst {part} {value:,.0f} >= {limit:,.0f}"
                return Finding(check=self.name, status=status, measures=measures, reason=reason)
        if len(surprisals) < tokens:
            return self._unscorable(f"{len(surprisals)} of {tokens} tokens scored", measures)
        return Finding(check=self.name, status=Status.CLEAR, measures=measures)


def unfit(text: str) -> str:
    """Why no language model can score the text; empty when one can."""
    if not text.strip():
        return "empty text"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "not valid Unicode"
    return ""
