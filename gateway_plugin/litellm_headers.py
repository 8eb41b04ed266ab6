"""Our response headers on a LiteLLM proxy: on replaced and on streamed answers too, where its own hooks for
headers are not called.

A plain ASGI layer around the proxy's application adds what the guardrail left in the request's context.
"""

import contextvars
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Send], Awaitable[None]]

_HEADERS: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("sif_headers", default=None)


class HeaderLayer:
    """Adds the disclosed headers to the response's start."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: dict[str, str] = {}
        token = _HEADERS.set(headers)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and headers:
                own = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        try:
            await self.app(scope, receive, with_headers)
        finally:
            _HEADERS.reset(token)


def disclose(headers: Mapping[str, str]) -> None:
    """Put these headers on the response to the request that is being served; no effect outside of one."""
    kept = _HEADERS.get()
    if kept is not None:
        kept.update(headers)


def install() -> None:
    """Wrap the proxy's application once. Its middleware stack is built by the time a guardrail is made, so
    ``add_middleware`` would be refused."""
    from litellm.proxy.proxy_server import app

    if app.middleware_stack is not None and not isinstance(app.middleware_stack, HeaderLayer):
        app.middleware_stack = HeaderLayer(app.middleware_stack)
