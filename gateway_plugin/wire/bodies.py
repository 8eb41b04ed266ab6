"""Reading a request's body within bounds, whatever a client sends."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Value = TypeVar("Value")

MAX_BODY_BYTES = 32 * 2**20
MAX_DEPTH = 64
MAX_VALUES = 200_000  # parsing takes 30 to 50 ms
MAX_ESCAPES = 8_000_000  # one string of so many is parsed in one go: 35 ms
BODY_TIMEOUT_S = 60.0
ON_THE_LOOP = 2**16  # bytes: what is larger is parsed and hashed in a thread


class BodyError(Exception):
    """A body that is refused. ``status`` is HTTP's; the message holds nothing of the body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class ClientGoneError(Exception):
    """The client went away before its request was whole."""


async def read_body(
    receive: Receive, *, headers: dict[str, str], limit: int, timeout_s: float = BODY_TIMEOUT_S
) -> bytes:
    """The whole body, at most ``limit`` bytes within ``timeout_s`` seconds.

    headers: names in lower case. Raises :class:`BodyError` (408, 413, 415) and :class:`ClientGoneError`.
    """
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise BodyError(415, "Compressed request bodies are not accepted.")
    too_large = BodyError(413, f"The request body is larger than {limit} bytes.")
    announced = headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                body += message.get("body", b"")
                if len(body) > limit:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise BodyError(408, "The request body did not arrive in time.") from None


async def aside(work: Callable[[], Value], *, size: int, on_the_loop: int = ON_THE_LOOP) -> Value:
    """What ``work`` on ``size`` bytes (or characters) gives; in a thread where they are more than may be
    worked on by the event loop itself."""
    return work() if size <= on_the_loop else await asyncio.to_thread(work)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that the body is. Raises :class:`BodyError` (400).

    Names that stand twice are refused: another parser could read the other value than the one screened.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise BodyError(400, f"The request body holds more than {MAX_VALUES} values.")
    if body.count(b"\\") > MAX_ESCAPES:
        raise BodyError(400, f"The request body holds more than {MAX_ESCAPES} escaped characters.")
    try:  # in two steps, each of which holds the interpreter's lock
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        document = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise BodyError(400, "The request body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise BodyError(400, "The request body is not a JSON object.")
    if _deeper_than(document, MAX_DEPTH):
        raise BodyError(400, f"The request body is nested deeper than {MAX_DEPTH} levels.")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice")
    return made


def _deeper_than(value: Any, limit: int) -> bool:
    layer = [value]
    for _ in range(limit):
        layer = [
            child
            for item in layer
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not layer:
            return False
    return True
