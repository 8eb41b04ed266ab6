"""Screening inside any ASGI application (FastAPI, Starlette) that serves OpenAI- or Anthropic-style routes.

app.add_middleware(GatewayMiddleware, configuration=..., models=..., identify=...)
"""

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway_plugin.asgi_answers import HeldAnswer, PassedAnswer, with_headers
from gateway_plugin.asgi_client import Client
from gateway_plugin.config import Configuration, GatewayConfigError, GatewaySettings
from gateway_plugin.engine import Gateway
from gateway_plugin.exchange import Caller, Exchange
from gateway_plugin.metrics import GatewayMetrics, default_metrics
from gateway_plugin.reference import IN_REFERENCE_CALL
from gateway_plugin.references import Models
from gateway_plugin.screener import Screener
from gateway_plugin.screening.policy import Action
from gateway_plugin.verdict import Verdict
from gateway_plugin.wire.answers import ReadAnswer
from gateway_plugin.wire.bodies import (
    MAX_BODY_BYTES,
    BodyError,
    ClientGoneError,
    Receive,
    Send,
    aside,
    parse_object,
    read_body,
)
from gateway_plugin.wire.errors import BLOCKED, send_error
from gateway_plugin.wire.queries import ROUTES, ReadQuery, read_query
from gateway_plugin.wire.streams import MAX_ANSWER_BYTES

Scope = Mapping[str, Any]
App = Callable[[Any, Receive, Send], Awaitable[None]]
# The application must not answer in ways that pass by a middleware's ``send`` or that it could not read.
_WITHHELD = ("http.response.pathsend", "http.response.zerocopysend", "http.response.trailers")


def hashed_key(scope: Scope) -> Caller:
    """The caller by the SHA-256 of their key, in hex, as LiteLLM names keys. Proves nothing: the
    application behind says whether the key is good."""
    headers = _headers(scope)
    given = headers.get("authorization", "").strip()
    scheme, _, token = given.partition(" ")
    bearer = scheme.lower() == "bearer"  # the scheme's case is the client's choice (RFC 9110, section 11.1)
    key = (token.strip() if bearer else given) or headers.get("x-api-key", "")
    return Caller(keys=frozenset({hashlib.sha256(key.encode()).hexdigest()})) if key else Caller()


class GatewayMiddleware:
    """Two phases around each call of a screened route; everything else passes untouched."""

    def __init__(
        self,
        app: App,
        *,
        configuration: Configuration,
        models: Models,
        name: str = "gateway",
        routes: Mapping[str, str] = ROUTES,
        identify: Callable[[Scope], Caller] = hashed_key,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        metrics: GatewayMetrics | None = None,
        screeners: Callable[[GatewaySettings], Screener] | None = None,
    ) -> None:
        """The checks' models are loaded at the application's start-up, or at the first request where the
        server has no start-up event.

        routes: ends of paths and what is served there (``chat``, ``responses``, ``messages``,
            ``embeddings``, ``completions``).
        identify: who asks, by the request's scope; what an authentication in front of this left there.
        max_answer_bytes: how much of one answer is held in memory to be judged.
        """
        unknown = sorted(set(routes.values()) - set(ROUTES.values()))
        if unknown:
            raise GatewayConfigError(f"routes: {unknown[0]!r} is none of {', '.join(ROUTES.values())}")
        self._app, self._routes, self._identify = app, dict(routes), identify
        self._max_body, self._max_answer = max_body_bytes, max_answer_bytes
        self._gateway: Gateway | None = None
        self._loading = asyncio.Lock()
        self._make = lambda: Gateway(
            configuration,
            name=name,
            models=models,
            metrics=metrics or default_metrics(),
            screeners=screeners,
        )

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        route = self._route(scope)
        if route is None or IN_REFERENCE_CALL.get():
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        try:
            body = await read_body(receive, headers=headers, limit=self._max_body)
            document, query = await aside(lambda: _read(route, body), size=len(body))
        except BodyError as error:
            await send_error(send, route, error.status, error.message)
            return
        except ClientGoneError:
            return
        model = document.get("model")
        exchange = Exchange(
            # Nothing of an embedding is judged afterwards, so nothing is remembered.
            call="" if route == "embeddings" else uuid.uuid4().hex,
            route=route,
            model=model if isinstance(model, str) else "",
            messages=query.messages,
            texts=query.texts,
            unread=query.unread,
            request=document,
            headers=headers,
            caller=self._identify(scope),
        )
        gateway = await self._loaded()
        async with Client(receive, body, on_gone=lambda: gateway.forget(exchange.call)) as client:
            try:
                await self._screened(gateway, exchange, _plain(scope), client, send)
            finally:
                gateway.forget(exchange.call)

    async def _screened(
        self, gateway: Gateway, exchange: Exchange, scope: Any, client: Client, send: Send
    ) -> None:
        verdict = await client.unless_gone(gateway.on_request(exchange))
        if verdict is None:
            return
        if verdict.action is Action.BLOCK:
            await _refuse(send, exchange.route, verdict)
            return
        if not exchange.call:
            await self._app(scope, client.receive, with_headers(send, verdict.headers))
            return

        async def judge(answer: ReadAnswer) -> Verdict | None:
            answered = replace(
                exchange,
                answers=answer.texts,
                has_tool_calls=answer.has_tool_calls,
                fault=answer.fault,
            )
            return await client.unless_gone(gateway.on_response(answered))

        kind = HeldAnswer if gateway.holds_answers_back else PassedAnswer
        answer = kind(exchange, send, judge, client, headers=verdict.headers, limit=self._max_answer)
        await self._app(scope, client.receive, answer.send)
        await answer.finish()

    async def _loaded(self) -> Gateway:
        if self._gateway is None:
            async with self._loading:
                if self._gateway is None:
                    self._gateway = await asyncio.to_thread(self._make)
        return self._gateway

    async def _lifespan(self, scope: Any, receive: Receive, send: Send) -> None:
        """Models before the first request; a start-up that fails says why in one line."""
        first = [await receive()]
        if first[0]["type"] == "lifespan.startup":
            try:
                await self._loaded()
            except Exception as error:
                why = (str(error).splitlines() or [type(error).__name__])[0]
                await send({"type": "lifespan.startup.failed", "message": why})
                return

        async def replayed() -> Any:
            return first.pop() if first else await receive()

        try:
            await self._app(scope, replayed, send)
        finally:
            if self._gateway is not None:
                await asyncio.to_thread(self._gateway.close)

    def _route(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        path = scope["path"].rstrip("/")
        return next((route for end, route in self._routes.items() if path.endswith(end)), None)


async def _refuse(send: Send, route: str, verdict: Verdict) -> None:
    await send_error(send, route, 400, verdict.message, code=BLOCKED, headers=verdict.headers)


def _read(route: str, body: bytes) -> tuple[dict[str, Any], ReadQuery]:
    document = parse_object(body)
    return document, read_query(route, document)


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _plain(scope: Scope) -> dict[str, Any]:
    """The scope for the application: an answer that can be read, sent by ``send``."""
    extensions = {k: v for k, v in (scope.get("extensions") or {}).items() if k not in _WITHHELD}
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
    return {**scope, "extensions": extensions, "headers": headers}
