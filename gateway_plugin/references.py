"""Models of the gateway's own: when a reference answer is asked for, and what checks may ask."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from gateway_plugin.config import GatewaySettings
from gateway_plugin.exchange import Exchange, image_urls
from gateway_plugin.reference import CallBudget, Complete, ReferenceAnswer, ask_model, ask_reference, is_local
from gateway_plugin.screening.base import Ask, AskError, Status

NO_MESSAGES = "the query cannot be put to another model"
TOO_MANY = "the query has too many messages and parts to be put to another model"
MAX_PARTS = 256  # a client library spends 0.1 ms on each, on the event loop
_MAX_READ = 10_000  # before neighbouring texts are joined


def _no_address(alias: str) -> str | None:
    return None


def _no_metadata(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Models:
    """How the gateway reaches models of its own.

    complete: gives LiteLLM's ``acompletion`` or anything of its shape; ``None`` while there is none.
    address: the API base of an alias, ``None`` for a provider's own.
    metadata: what a call of the gateway's own carries on behalf of a request (its team's budget).
    """

    complete: Callable[[], Complete | None]
    address: Callable[[str], str | None] = _no_address
    metadata: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _no_metadata

    def asker(
        self,
        exchange: Exchange,
        settings: GatewaySettings,
        *,
        budget: CallBudget,
        on_call: Callable[[], None],
    ) -> Ask:
        """What the checks of this exchange may ask with: the model that serves it, and others under the
        rules for sharing; as often as ``budget`` allows. ``on_call`` is told of each call."""

        async def ask(
            *,
            model: str,
            messages: Sequence[Mapping[str, Any]],
            max_tokens: int,
            temperature: float | None = None,
        ) -> str:
            complete = self.complete()
            if complete is None:
                raise AskError("error")
            if model != exchange.model and (why := not_shared(settings, self.address(model), messages)):
                raise AskError(why)
            joined = joined_parts(messages)
            if joined is None:
                raise AskError("too_many_parts")
            if not budget.take():
                raise AskError("budget")
            on_call()
            # A task of its own, so that its mark against recursion stays in its own context.
            answer = await asyncio.create_task(
                ask_model(
                    complete,
                    model=model,
                    messages=joined,
                    timeout_s=settings.reference_timeout_s,
                    max_tokens=max_tokens,
                    metadata=self.metadata(exchange.request),
                    options={} if temperature is None else {"temperature": temperature},
                )
            )
            return str(answer.text)

        return ask


class References:
    """Starts reference calls as the settings allow: what may be shared, how often, for how much."""

    def __init__(self, settings: GatewaySettings, *, models: Models, rng: random.Random) -> None:
        self._settings, self._models, self._rng = settings, models, rng
        self._budget = CallBudget(settings.reference_calls_per_minute)

    def start(self, exchange: Exchange, *, must: bool) -> "asyncio.Future[ReferenceAnswer]":
        """Start the call beside the main one, unless it is left out.

        must: a replacement waits for it, so neither sampling nor the budget leaves it out.
        """
        complete, settings = self._models.complete(), self._settings
        address = self._models.address(str(settings.reference_model))
        if why := not_shared(settings, address, exchange.messages):
            return _left_out(f"reference_{why}", Status.SKIPPED)
        if not must and self._rng.random() >= settings.reference_sampling_rate:
            return _left_out("reference_sampled_out", Status.SKIPPED)
        messages = joined_parts(exchange.messages)
        if not messages:
            return _left_out(NO_MESSAGES if messages is not None else TOO_MANY, Status.UNSCORABLE)
        if complete is None:
            return _left_out("reference_error", Status.FAILED)
        if not must and not self._budget.take():
            return _left_out("reference_budget", Status.FAILED)
        return asyncio.create_task(
            ask_reference(
                complete,
                model=str(settings.reference_model),
                messages=messages,
                request=exchange.request,
                metadata=self._models.metadata(exchange.request),
                timeout_s=settings.reference_timeout_s,
                max_tokens=settings.reference_max_tokens,
            )
        )


def joined_parts(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]] | None:
    """The messages with neighbouring text parts as one, joined by line ends as for the query's scores;
    ``None`` where even so more than 256 messages and parts are left, or 10,000 were there before.

    A client library looks at each part on the event loop, so that thousands of them would stop the gateway.
    """
    if sum(map(_size, messages)) > _MAX_READ:
        return None
    joined = [_joined(message) for message in messages]
    return joined if sum(map(_size, joined)) <= MAX_PARTS else None


def _size(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    return max(1, len(content)) if isinstance(content, list) else 1


def _joined(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message.get("content")
    if not isinstance(content, list) or len(content) < 2:
        return message
    parts: list[Any] = []
    for is_text, run in groupby(content, key=_is_text):
        rows = list(run)
        if is_text and len(rows) > 1:
            rows = [{"type": "text", "text": "\n".join(row["text"] for row in rows)}]
        parts += rows
    return {**message, "content": parts}


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def not_shared(settings: GatewaySettings, address: str | None, messages: Sequence[Mapping[str, Any]]) -> str:
    """Why these messages must not go to a model at ``address``; empty when they may."""
    local = settings.reference_is_local
    if is_local(address) if local is None else local:
        return ""
    if not settings.reference_shares_content:
        return "content_not_shared"
    if not settings.reference_shares_images and any(image_urls(messages)):
        return "images_not_shared"
    return ""


def _left_out(why: str, status: Status) -> "asyncio.Future[ReferenceAnswer]":
    future: asyncio.Future[ReferenceAnswer] = asyncio.get_running_loop().create_future()
    future.set_result(ReferenceAnswer(text=None, failure=why, left_out=status))
    return future
