"""What the guardrail service answers: calls in the shape of LiteLLM's Generic Guardrail API to the engine and
back."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway_plugin.config import GatewaySettings
from gateway_plugin.endpoints import Endpoints
from gateway_plugin.engine import Gateway
from gateway_plugin.exchange import Exchange
from gateway_plugin.guardrail_calls import GuardrailCalls, IdInUseError, digest_of
from gateway_plugin.litellm_exchange import caller_of
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.screener import Screener
from gateway_plugin.screening.policy import Action
from gateway_plugin.service_config import ServiceConfiguration
from gateway_plugin.wire.bodies import BodyError, aside, parse_object
from gateway_plugin.wire.queries import mappings

logger = logging.getLogger("sifwatch.gateway")

NOTHING: Mapping[str, Any] = {"action": "NONE"}


class GuardrailService:
    """What stands behind the route: calls in LiteLLM's shape to the engine and back."""

    def __init__(
        self,
        service: ServiceConfiguration,
        *,
        keys: tuple[bytes, ...],
        metrics: GatewayMetrics,
        screeners: Callable[[GatewaySettings], Screener] | None = None,
    ) -> None:
        self._configuration = service.configuration
        self._metrics = metrics
        self._endpoints = Endpoints(service.endpoints, secret=keys[0] if keys else b"")
        settings = service.configuration.settings
        self._calls = GuardrailCalls(max_calls=settings.max_calls, ttl_s=settings.state_ttl_s)
        self._gateway = Gateway(
            service.configuration,
            name="guardrail-api",
            models=self._endpoints.models,
            metrics=metrics,
            screeners=screeners,
        )

    async def answer(self, raw: bytes, *, proxy: str) -> Mapping[str, Any]:
        """``proxy`` names the key that the request came with. Raises :class:`BodyError`."""
        body = await aside(lambda: parse_object(raw), size=len(raw))
        phase = body.get("input_type")
        if phase not in ("request", "response"):
            raise BodyError(400, "input_type must be request or response")
        headers = _texts(body.get("request_headers"))
        if self._endpoints.is_own(headers):
            return NOTHING
        given = body.get("texts")
        texts = tuple(text for text in given if isinstance(text, str)) if isinstance(given, list) else ()
        who = body.get("request_data")
        caller, call_id = caller_of(who if isinstance(who, Mapping) else {}), body.get("litellm_call_id")
        whose = [proxy, sorted(caller.keys), sorted(caller.teams)]
        key = digest_of([call_id, whose]).hex() if isinstance(call_id, str) and call_id else ""
        model = body.get("model")
        exchange = Exchange(
            call="",
            route="other",
            model=model if isinstance(model, str) else "",
            headers=headers,
            caller=caller,
        )
        act = self._request if phase == "request" else self._response
        return await act(exchange, body, texts, key, size=len(raw))

    async def close(self) -> None:
        """Write what waits, close the connections."""
        self._gateway.close()
        await self._endpoints.close()

    async def _request(
        self, exchange: Exchange, body: Mapping[str, Any], texts: tuple[str, ...], key: str, *, size: int
    ) -> Mapping[str, Any]:
        messages, tools = mappings(body.get("structured_messages")), body.get("tools")
        request = {"model": exchange.model, **({"messages": messages} if messages else {})}
        call = ""
        if key:
            asked = [messages, texts, exchange.model, bool(tools)]
            query = await aside(lambda: digest_of(asked), size=size)
            try:  # no other call is served between the look at the id and its opening
                call = self._calls.open(key, query=query, model=exchange.model, tools=bool(tools))
            except IdInUseError:
                if not self._passes_in_use(exchange):
                    reason = "This call id is in use; choose another or none."
                    return {"action": "BLOCKED", "blocked_reason": reason}
        exchange = replace(
            exchange,
            call=call,
            route="chat" if messages else "other",
            messages=tuple(messages),
            texts=texts,
            request={**request, "tools": tools} if tools else request,
        )
        served = False
        try:
            verdict = await self._gateway.on_request(exchange)
            served = verdict.action is not Action.BLOCK
        finally:
            if not served:  # there will be no answer: the id is free again
                self._calls.close(key, call)
                self._gateway.forget(call)
        if served:
            return NOTHING
        return {"action": "BLOCKED", "blocked_reason": verdict.message, "audit_id": verdict.audit_id}

    async def _response(
        self, exchange: Exchange, body: Mapping[str, Any], texts: tuple[str, ...], key: str, *, size: int
    ) -> Mapping[str, Any]:
        said = await aside(lambda: digest_of(texts), size=size)
        known = self._calls.find(key)
        if known is not None and not known.waiting and known.said is not None and known.said[0] == said:
            return known.said[1]
        waits = known is not None and bool(known.waiting)
        exchange = replace(
            exchange,
            call=known.waiting.pop(0) if known is not None and waits else "",
            model=known.model if known is not None else exchange.model,
            request={"tools": [{}]} if known is not None and known.tools else {},
            answers=texts,
            has_tool_calls=bool(body.get("tool_calls")),
            fault="" if waits else "unknown_call",
        )
        verdict = await self._gateway.on_response(exchange)
        reply: Mapping[str, Any] = NOTHING
        if verdict.action is Action.BLOCK:
            reply = {"action": "BLOCKED", "blocked_reason": verdict.message, "audit_id": verdict.audit_id}
        elif verdict.action is Action.REPLACE and verdict.reference is not None:
            text = verdict.reference.text
            reply = {"action": "GUARDRAIL_INTERVENED", "texts": [text], "audit_id": verdict.audit_id}
        if known is not None:
            known.said = said, reply
        return reply

    def _passes_in_use(self, exchange: Exchange) -> bool:
        """Whether a query is served although its id belongs to another: in a dry run, screened alone."""
        self._metrics.failures.labels(check="call_id", kind="in_use").inc()
        logger.warning("a call id was used again while calls under it wait for their answers")
        caller = exchange.caller
        settings = self._configuration.pick(teams=caller.teams, keys=caller.keys, model=exchange.model)
        return settings.dry_run


def _texts(value: Any) -> dict[str, str]:
    """Header names and values; LiteLLM writes ``[present]`` for a value that it does not tell."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name).lower(): text for name, text in value.items() if isinstance(text, str)}
