"""An HTTP service that speaks LiteLLM's Generic Guardrail API, for proxies where nothing may be installed.

POST /beta/litellm_basic_guardrail_api     x-api-key: ...
GET  /healthz  /readyz  /metrics
"""

import contextlib
import hmac
import ipaddress
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gateway_plugin.config import GatewayConfigError, GatewaySettings
from gateway_plugin.endpoints import Endpoints
from gateway_plugin.engine import Gateway
from gateway_plugin.exchange import Caller, Exchange
from gateway_plugin.guardrail_calls import GuardrailCalls, IdInUseError, digest_of
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.screener import Screener
from gateway_plugin.screening.policy import Action
from gateway_plugin.service_config import ServiceConfiguration, load_service_configuration
from gateway_plugin.wire.bodies import BodyError, ClientGoneError, aside, parse_object, read_body
from gateway_plugin.wire.queries import mappings

logger = logging.getLogger("sifwatch.gateway")

PATH = "/beta/litellm_basic_guardrail_api"
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
        caller, call_id = _caller(body.get("request_data")), body.get("litellm_call_id")
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


def create_app(
    service: ServiceConfiguration,
    *,
    unauthenticated: bool = False,
    registry: CollectorRegistry | None = None,
    screeners: Callable[[GatewaySettings], Screener] | None = None,
) -> FastAPI:
    """The service; loads the models of the enabled checks (seconds).

    unauthenticated: ask for no key. Only for a service that nobody else can reach.
    Raises :class:`GatewayConfigError` where a key or a variable is missing or a model cannot be loaded.
    """
    registry = registry or CollectorRegistry()
    keys = () if unauthenticated else service.api_keys()
    guard = GuardrailService(service, keys=keys, metrics=GatewayMetrics(registry), screeners=screeners)
    limits, busy = service.service, 0

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await guard.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)

    @app.post(PATH)
    async def guardrail(request: Request) -> Response:
        nonlocal busy
        proxy = "anyone" if unauthenticated else _who(request.headers.get("x-api-key", ""), keys)
        if proxy is None:
            return _error(401, "x-api-key is missing or unknown")
        if busy >= limits.max_calls_at_once:
            return _error(503, "too many calls at once", {"retry-after": "1"})
        busy += 1
        try:
            headers = {name.lower(): value for name, value in request.headers.items()}
            body = await read_body(request.receive, headers=headers, limit=limits.max_body_bytes)
            return JSONResponse(await guard.answer(body, proxy=proxy))
        except BodyError as error:
            return _error(error.status, error.message)
        except ClientGoneError:
            return _error(400, "the request ended early")
        except Exception as error:  # its message may hold what a client wrote: only where and what kind
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("guardrail call failed with %s at\n%s", type(error).__name__, where)
            return _error(500, "internal error")
        finally:
            busy -= 1

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        full = busy >= limits.max_calls_at_once
        return JSONResponse({"status": "full" if full else "ready"}, status_code=503 if full else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def serve(config: Path, *, host: str = "127.0.0.1", port: int = 8091, unauthenticated: bool = False) -> None:
    """Serve until a signal comes. Raises :class:`GatewayConfigError` before anything listens."""
    import uvicorn

    if unauthenticated and not _is_loopback(host):
        raise GatewayConfigError(f"{host}: a service without a key may listen on loopback only")
    app = create_app(load_service_configuration(config), unauthenticated=unauthenticated)
    # A proxy keeps its connections open; a server that closes them first makes it lose calls.
    uvicorn.run(app, host=host, port=port, access_log=False, server_header=False, timeout_keep_alive=75)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _who(given: str, keys: tuple[bytes, ...]) -> str | None:
    """The number of the key, as text; every key is compared, in constant time."""
    matches = [hmac.compare_digest(given.encode("utf-8", "replace"), key) for key in keys]
    return str(matches.index(True)) if any(matches) else None


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status_code=status, headers=dict(headers or {}))


def _texts(value: Any) -> dict[str, str]:
    """Header names and values; LiteLLM writes ``[present]`` for a value that it does not tell."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name).lower(): text for name, text in value.items() if isinstance(text, str)}


def _caller(value: Any) -> Caller:
    """As the proxy authenticated them."""
    own = value if isinstance(value, Mapping) else {}

    def named(*names: str) -> list[str]:
        return [own[name] for name in names if isinstance(own.get(name), str) and own[name]]

    user = named("user_api_key_end_user_id", "user_api_key_user_id")
    return Caller(
        teams=frozenset(named("user_api_key_team_alias", "user_api_key_team_id")),
        keys=frozenset(named("user_api_key_alias", "user_api_key_hash")),
        end_user=user[0] if user else "",
    )
