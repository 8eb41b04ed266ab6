"""The HTTP face of the lab: OpenAI's chat completions over one :class:`Engine`."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import SecretStr
from starlette.exceptions import HTTPException

from sif_offline.lab.server.engine import Engine, Started
from sif_offline.lab.server.errors import ApiError, internal_error, model_not_found
from sif_offline.lab.server.reply import EventStream, Reply
from sif_offline.lab.server.schema import ChatRequest, parse_request, to_job

MAX_BODY = 32 * 2**20
"""Largest request body in bytes: the largest picture in base64, and room for words."""
BODY_SECONDS = 60.0
_T = TypeVar("_T")


def build_app(
    engine: Engine, *, model_name: str, api_key: SecretStr | None = None, max_body: int = MAX_BODY
) -> FastAPI:
    """An app that serves ``engine`` as ``model_name``: warmed up before the first request, closed at the end.

    Args:
        engine: the model.
        model_name: what a request has to call it.
        api_key: bearer token that ``/v1`` asks for; none = open to all who reach the port.
        max_body: bytes of a request that are read at most.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await asyncio.to_thread(engine.warm_up)
            yield
        finally:
            await asyncio.to_thread(engine.close)

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    created = int(time.time())
    card = {"id": model_name, "object": "model", "created": created, "owned_by": "sifwatch-lab"}

    @app.get("/health")
    async def health() -> dict[str, str | int]:
        return {"status": "ok", "model": model_name, "requests": engine.inside}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        _check_key(request, api_key)
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        _check_key(request, api_key)
        if name != model_name:
            raise model_not_found(name)
        return card

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        _check_key(request, api_key)
        async with AsyncExitStack() as held:
            held.enter_context(engine.admit())
            wanted = await asyncio.to_thread(parse_request, await _read_body(request, max_body))
            if wanted.model != model_name:
                raise model_not_found(wanted.model)
            job = await asyncio.to_thread(to_job, wanted)
            events = await held.enter_async_context(aclosing(engine.answer(job)))
            # An error in the request is raised here, before any header is sent.
            first = await _unless_gone(request, anext(events))
            assert isinstance(first, Started)  # noqa: S101 - the engine's promise
            reply = Reply(model_name, first.prompt_tokens)
            if not wanted.stream:
                return JSONResponse(await _unless_gone(request, reply.whole(events)))
            # The place in the queue and the model's work now belong to the stream, which outlives this call.
            return EventStream(reply.stream(events, usage=_wants_usage(wanted)), held.pop_all())

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        what = f"{error.detail}: {request.method} {request.url.path[:200]}"
        said = ApiError(what, status=error.status_code)
        return JSONResponse(said.body(), status_code=said.status, headers=error.headers)

    @app.exception_handler(Exception)
    async def crash(_: Request, error: Exception) -> Response:
        return JSONResponse(internal_error().body(), status_code=500)

    return app


def _wants_usage(request: ChatRequest) -> bool:
    return request.stream_options is not None and request.stream_options.include_usage


def _check_key(request: Request, api_key: SecretStr | None) -> None:
    if api_key is None:
        return
    sent = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(sent, b"Bearer " + api_key.get_secret_value().encode()):
        raise ApiError("Incorrect API key provided", status=401, code="invalid_api_key")


async def _read_body(request: Request, limit: int) -> bytes:
    """The body. Raises ``ApiError``: 413 over ``limit`` bytes, 408 when it takes too long."""
    length = request.headers.get("content-length", "")
    refused = length.isdecimal() and int(length) > limit
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                refused = refused or size > limit
                if refused:
                    chunks.clear()
                    # More is read and thrown away: a client cut off while it sends never sees the answer.
                    if size > 4 * limit:
                        break
                else:
                    chunks.append(chunk)
    except TimeoutError:
        raise ApiError("The request body took too long", status=408, code="request_timeout") from None
    if refused:
        what = f"The request body is over the limit of {limit:,} bytes"
        raise ApiError(what, status=413, code="request_too_large")
    return b"".join(chunks)


async def _unless_gone(request: Request, work: Awaitable[_T]) -> _T:
    """The result of ``work``, which is cancelled when the client hangs up: nobody waits for that answer."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError("The client went away", status=499)
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
