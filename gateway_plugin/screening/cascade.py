"""The cascade: the cheap model clears what is plainly language, the neural model judges the rest."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from gateway_plugin.screening.base import Finding, Phase, Query, Status, worst
from gateway_plugin.screening.cheap.check import CheapCheck, CheapScore, Triage
from gateway_plugin.screening.perplexity import PerplexityCheck, unfit
from gateway_plugin.screening.stretches import reading

# The reference model knows English: an honest sentence in Danish, Hungarian or Turkish, or one with typos,
# reaches worst windows of 13,000 to 38,000, while the cheap model finds it language (up to 2 bits a character
# above what it clears). Such a text may lie eight times as high.
FOREIGN_EXCESS = 2.0  # bits per character
FOREIGN_ALLOWANCE = math.log(8.0)  # nats per token


class CascadeCheck:
    """Scores every text of a query; the gravest decides. Named ``perplexity``, like the neural check alone.

    ``decide`` runs the cheap model alone: microseconds, fit for an event loop. What it leaves open needs
    ``score_texts``, which blocks while the neural model runs.
    """

    name = "perplexity"
    phase = Phase.REQUEST

    def __init__(
        self, *, cheap: CheapCheck | None, neural: PerplexityCheck | None, always_neural: bool = False
    ) -> None:
        """Either may be ``None``: without the neural model what is undecided is a suspect.

        always_neural: run the neural model on every text, so that every finding has its measures; the
        decision on a text stays what it is without.
        """
        if cheap is None and neural is None:
            raise ValueError("a cascade needs a cheap or a neural model")
        self._cheap, self._neural, self._always_neural = cheap, neural, always_neural

    def score(self, query: Query, response: str | None = None, reference: str | None = None) -> Finding:
        return worst(self.score_texts(query.texts), check=self.name)

    def decide(self, text: str) -> Finding | None:
        """The cheap model's finding, or ``None`` where the neural model must look. Never blocks."""
        reason = unfit(text)
        if reason:
            return Finding(check=self.name, status=Status.UNSCORABLE, reason=reason)
        return None if self._cheap is None else self._said(self._cheap.score_text(text))

    def suspicion(self, text: str) -> float:
        """How far the cheap model finds the text above what it clears, in bits per character; 0 without it.

        Says which of many texts the neural model should see first.
        """
        if self._cheap is None or unfit(text):
            return 0.0
        return self._cheap.score_text(text).clear_excess

    def score_texts(self, texts: Sequence[str]) -> list[Finding]:
        """One finding a text, in order; what the cheap model leaves open is scored in shared batches.

        Of a text of more than 1,024 characters the language model reads the stretches that the cheap model
        does not clear, the strangest first; the gravest decides, and where some are left over the text
        counts as unscorable besides.

        Measures: cheap_bits_per_character, cheap_clear_excess and cheap_suspect_excess where the cheap
        model ran; those of :class:`PerplexityCheck` where the neural one did; none of an unscorable text.
        """
        reasons = [unfit(text) for text in texts]
        cheap = [
            None if reason or self._cheap is None else self._cheap.score_text(text)
            for text, reason in zip(texts, reasons, strict=True)
        ]
        decided = [None if score is None else self._said(score) for score in cheap]
        asked = [
            index
            for index, reason in enumerate(reasons)
            if not reason and (decided[index] is None or self._always_neural)
        ]
        judged = dict(zip(asked, self._judged([(texts[i], cheap[i]) for i in asked]), strict=True))
        return [
            Finding(check=self.name, status=Status.UNSCORABLE, reason=reason)
            if reason
            else self._joined(cheap[index], decided[index], judged.get(index))
            for index, reason in enumerate(reasons)
        ]

    def _judged(self, asked: Sequence[tuple[str, CheapScore | None]]) -> list[Finding | None]:
        """What the neural model makes of each text; ``None`` without one."""
        if self._neural is None:
            return [None] * len(asked)
        readings = [reading(text, cheap=self._cheap, score=score) for text, score in asked]
        stretches = [
            (*pair, len(text))
            for (text, _), each in zip(asked, readings, strict=True)
            for pair in each.stretches
        ]
        findings = iter(
            self._neural.score_texts(
                [text for text, _, _ in stretches],
                allowances=[foreign_allowance(score) for _, score, _ in stretches],
                wholes=[whole for _, _, whole in stretches],
            )
        )
        clear = Finding(check=self.name, status=Status.CLEAR)
        found: list[Finding | None] = []
        for each in readings:
            ours = list(islice(findings, len(each.stretches)))
            if each.unread:
                reason = f"{each.unread} not scored"
                ours.append(Finding(check=self.name, status=Status.UNSCORABLE, reason=reason))
            found.append(worst(ours, check=self.name) if ours else clear)
        return found

    def _said(self, score: CheapScore) -> Finding | None:
        """A finding where the cheap model decides."""
        if score.triage is not Triage.CLEAR:
            return None
        return Finding(check=self.name, status=Status.CLEAR, measures=_measures(score))

    def _strange(self, score: CheapScore) -> Finding:
        reason = f"worst window {score.suspect_excess:.1f} bits a character above its script's limit"
        return Finding(check=self.name, status=Status.SUSPECT, reason=reason)

    def _joined(self, score: CheapScore | None, decided: Finding | None, judged: Finding | None) -> Finding:
        """The finding on one text from what each model made of it."""
        found = [] if judged is None else [judged]
        if decided is not None:
            found = [decided]
        elif score is not None and score.triage is Triage.SUSPECT:
            found.append(self._strange(score))
        elif judged is None:
            reason = "the cheap model is undecided and there is no other"
            found = [Finding(check=self.name, status=Status.SUSPECT, reason=reason)]
        deciding = worst(found, check=self.name)
        measures = ({} if score is None else _measures(score)) | dict(judged.measures if judged else {})
        return replace(deciding, measures=measures)


def foreign_allowance(score: CheapScore | None) -> float:
    """Nats per token that the neural model allows a text, from what the cheap one makes of it."""
    if score is None or score.clear_excess >= FOREIGN_EXCESS:
        return 0.0
    return FOREIGN_ALLOWANCE


def _measures(score: CheapScore) -> dict[str, float]:
    return {
        "cheap_bits_per_character": score.bits_per_character,
        "cheap_clear_excess": score.clear_excess,
        "cheap_suspect_excess": score.suspect_excess,
    }
