"""The check that asks the judge."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from gateway_plugin.screening.base import Ask, Asked, Finding, Phase, Status
from gateway_plugin.screening.judge.prompt import INSTRUCTIONS, told
from gateway_plugin.screening.judge.reply import Judgement, Label, parse_judgement
from gateway_plugin.screening.pictures import MAX_PIXELS, Reencoding, decoded
from sif_offline.fingerprint.images import ImageError

MAX_IMAGES = 4
MAX_TOKENS = 64  # of the judge's reply
SHOWN_IMAGE = Reencoding(jpeg_quality=90)


class JudgeCheck:
    """Asks a model of the gateway for its verdict on the query, or on query and answer.

    Args:
        model: alias of the judge.
        phase: ``REQUEST`` judges the query alone, before the main model is asked (the finding's name is then
            ``judge_query``); ``RESPONSE`` judges query and answer (``judge``).
        suspect_confidence: a verdict other than natural counts from this confidence on.
        hit_confidence: the verdict "fingerprint" is a hit from this confidence on, a suspect below it.
        max_characters: of the query, and again of the answer, that are shown: the two ends of a longer one.
        shares_images: also send the pictures (at most four, encoded anew); else only their number is told.
    """

    def __init__(
        self,
        *,
        model: str,
        phase: Phase = Phase.RESPONSE,
        suspect_confidence: float = 0.5,
        hit_confidence: float = 0.8,
        max_characters: int = 4_000,
        shares_images: bool = False,
    ) -> None:
        if not 0.0 <= suspect_confidence <= hit_confidence <= 1.0:
            raise ValueError("0 <= suspect_confidence <= hit_confidence <= 1 does not hold")
        if max_characters < 2:
            raise ValueError("max_characters must be at least 2")
        self.name = "judge" if phase is Phase.RESPONSE else "judge_query"
        self.phase = phase
        self._model, self._max_characters = model, max_characters
        self._suspect, self._hit = suspect_confidence, hit_confidence
        self._shares_images = shares_images

    async def examine(self, exchange: Asked, ask: Ask) -> Finding:
        """Measures: verdict (0 natural, 1 suspicious, 2 fingerprint), confidence, extra_calls.

        Raises:
            AskError: the judge cannot be asked; ``judge_garbage`` where its reply is not what it must be.
        """
        query = "\n\n".join(exchange.query.texts)
        answer = exchange.response if self.phase is Phase.RESPONSE else None
        images = exchange.query.images
        if self.phase is Phase.RESPONSE and answer is None:
            return Finding(check=self.name, status=Status.SKIPPED, reason="no answer to judge")
        shown = images[:MAX_IMAGES] if self._shares_images else ()
        if not query.strip() and not shown and not (answer or "").strip():
            return Finding(check=self.name, status=Status.SKIPPED, reason="nothing to judge")
        try:
            urls = await asyncio.to_thread(_data_urls, shown)
        except ImageError:
            return Finding(check=self.name, status=Status.UNSCORABLE, reason="a picture cannot be decoded")
        text = told(query, answer, images=len(images), shown=len(shown), max_characters=self._max_characters)
        parts: list[Mapping[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        content: Any = [{"type": "text", "text": text}, *parts] if parts else text
        reply = await ask(
            model=self._model,
            messages=[{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": content}],
            max_tokens=MAX_TOKENS,
            temperature=0.0,
        )
        return self._found(parse_judgement(reply))

    def _found(self, judged: Judgement) -> Finding:
        measures = {
            "verdict": float(list(Label).index(judged.label)),
            "confidence": judged.confidence,
            "extra_calls": 1.0,
        }
        status, reason = Status.CLEAR, ""
        if judged.label is not Label.NATURAL and judged.confidence >= self._suspect:
            planted = judged.label is Label.FINGERPRINT and judged.confidence >= self._hit
            status = Status.HIT if planted else Status.SUSPECT
            reason = f"the judge says {judged.label}, confidence {judged.confidence:.2f}"
        return Finding(check=self.name, status=status, measures=measures, reason=reason)


def _data_urls(images: Sequence[bytes]) -> list[str]:
    return [SHOWN_IMAGE.data_url(decoded(image, max_pixels=MAX_PIXELS)) for image in images]
