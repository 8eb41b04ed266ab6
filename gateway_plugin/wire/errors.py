"""Errors in the shape that the route's client libraries know."""

import json
from collections.abc import Mapping
from typing import Any

from gateway_plugin.wire.bodies import Send

BLOCKED = "content_policy_violation"


def error_body(route: str, message: str, *, code: str | None = None) -> dict[str, Any]:
    """Anthropic's shape on ``messages``, OpenAI's everywhere else."""
    kind = "invalid_request_error"
    if route == "messages":
        return {"type": "error", "error": {"type": kind, "message": message}}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


async def send_error(
    send: Send,
    route: str,
    status: int,
    message: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """A whole response."""
    body = json.dumps(error_body(route, message, code=code)).encode()
    rows = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": raw(rows)})
    await send({"type": "http.response.body", "body": body})


def raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """ASGI's header rows. A value may hold what a client wrote (a model's name), so no line ends in it."""
    return [(name.encode("latin-1"), _printable(value)) for name, value in headers.items()]


def _printable(value: str) -> bytes:
    return "".join(c if c.isprintable() else "?" for c in value).encode("latin-1", "replace")
