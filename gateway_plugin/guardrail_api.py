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
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gateway_plugin.config import GatewayConfigError, GatewaySettings
from gateway_plugin.guardrail_service import GuardrailService
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.screener import Screener
from gateway_plugin.service_config import ServiceConfiguration, load_service_configuration
from gateway_plugin.wire.bodies import BodyError, ClientGoneError, read_body

logger = logging.getLogger("sifwatch.gateway")

PATH = "/beta/litellm_basic_guardrail_api"


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
