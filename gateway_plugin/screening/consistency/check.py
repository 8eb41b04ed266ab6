"""The check that asks again: one further call of the main model a re-encoding."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from gateway_plugin.screening.base import Ask, Asked, AskError, Finding, Phase, Status
from gateway_plugin.screening.consistency.agreement import instability
from gateway_plugin.screening.consistency.messages import UnscorableError, picture_urls, with_pictures
from gateway_plugin.screening.divergence import Embedder
from gateway_plugin.screening.pictures import MAX_PIXELS, Reencoding, decoded
from sif_offline.fingerprint.images import ImageError, from_data_url

DEFAULT_REENCODINGS = (Reencoding(jpeg_quality=60), Reencoding(jpeg_quality=90, blur=1.0))


@dataclass(frozen=True, kw_only=True)
class ConsistencyThresholds:
    """Instabilities in [0, 1] from which an exchange is a suspect or a hit; see docs/reference-models.md."""

    suspect_instability: float = 0.75
    hit_instability: float = 0.85

    def __post_init__(self) -> None:
        if not 0.0 < self.suspect_instability <= self.hit_instability <= 1.0:
            raise ValueError("0 < suspect_instability <= hit_instability <= 1 does not hold")


class ImageConsistencyCheck:
    """Asks again with the pictures re-encoded, and compares the answers with the served one.

    Args:
        embedder: for the cosine between answers.
        thresholds: of the instability.
        reencodings: one call each.
        max_tokens: of each further answer.
        max_images: more pictures in a conversation cannot be scored.
        max_pixels: of all pictures of a conversation together.

    An answer that the client had sampled differs from a greedy one for that reason alone: the shipped
    thresholds are measured at temperature 0.
    """

    name = "image_consistency"
    phase = Phase.RESPONSE

    def __init__(
        self,
        *,
        embedder: Embedder,
        thresholds: ConsistencyThresholds | None = None,
        reencodings: Sequence[Reencoding] = DEFAULT_REENCODINGS,
        max_tokens: int = 128,
        max_images: int = 8,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if not reencodings or max_tokens < 1 or max_images < 1 or max_pixels < 1:
            raise ValueError("at least one re-encoding, token, picture and pixel are needed")
        self._embedder, self._thresholds = embedder, thresholds or ConsistencyThresholds()
        self._reencodings, self._max_tokens = tuple(reencodings), max_tokens
        self._max_images, self._max_pixels = max_images, max_pixels

    async def examine(self, exchange: Asked, ask: Ask) -> Finding:
        """Measures: instability, cosine and jaccard (means over the re-encodings; jaccard where it speaks),
        extra_calls.

        Raises:
            AskError: no re-encoding was answered.
        """
        if exchange.response is None:
            return self._finding(Status.SKIPPED, "no answer to compare")
        try:
            urls = picture_urls(exchange.messages)
            if not urls:
                if exchange.query.images:
                    return self._finding(Status.UNSCORABLE, "the question cannot be put again on this route")
                return self._finding(Status.SKIPPED, "no picture")
            if not any(map(str.isalnum, exchange.response)):
                return self._finding(Status.UNSCORABLE, "the answer has no words")
            conversations = await asyncio.to_thread(self._conversations, exchange.messages, urls)
        except UnscorableError as error:
            return self._finding(Status.UNSCORABLE, str(error))
        replies = await asyncio.gather(
            *(
                ask(model=exchange.model, messages=messages, max_tokens=self._max_tokens, temperature=0.0)
                for messages in conversations
            ),
            return_exceptions=True,
        )
        answers: list[str] = []
        for reply in replies:
            if isinstance(reply, str):
                answers.append(reply)
            elif not isinstance(reply, AskError):
                raise reply
        if not answers:
            raise next(reply for reply in replies if isinstance(reply, AskError))
        measures = await asyncio.to_thread(instability, self._embedder, exchange.response, answers)
        return self._judged({**measures, "extra_calls": float(len(replies))})

    def _conversations(
        self, messages: Sequence[Mapping[str, Any]], urls: Sequence[str]
    ) -> list[list[Mapping[str, Any]]]:
        """The conversation once a re-encoding, its pictures changed."""
        if len(urls) > self._max_images:
            raise UnscorableError(f"{len(urls)} pictures, over the limit of {self._max_images}")
        pictures: dict[str, Image.Image] = {}
        pixels = self._max_pixels
        for url in dict.fromkeys(urls):
            if url[:5].lower() != "data:":
                raise UnscorableError("a picture is given by an address, which is never fetched")
            try:
                pictures[url] = decoded(from_data_url(url), max_pixels=pixels)
            except ImageError:
                raise UnscorableError("a picture cannot be decoded within the bounds") from None
            pixels -= pictures[url].width * pictures[url].height
        return [
            with_pictures(messages, {url: how.data_url(picture) for url, picture in pictures.items()})
            for how in self._reencodings
        ]

    def _judged(self, measures: Mapping[str, float]) -> Finding:
        value, limits = measures["instability"], self._thresholds
        for status, limit in (
            (Status.HIT, limits.hit_instability),
            (Status.SUSPECT, limits.suspect_instability),
        ):
            if value >= limit:
                reason = (
                    f"the answer changes with the picture's encoding: instability {value:.2f} >= {limit:g}"
                )
                return self._finding(status, reason, measures)
        return self._finding(Status.CLEAR, "", measures)

    def _finding(self, status: Status, reason: str, measures: Mapping[str, float] | None = None) -> Finding:
        measures = {"extra_calls": 0.0} if measures is None else measures
        return Finding(check=self.name, status=status, measures=measures, reason=reason)
