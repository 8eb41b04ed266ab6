"""Seeded traffic for the soak: ordinary requests of all routes, and hostile ones.

A request is bytes, so that what no client library would send can be sent. ``expected`` are the statuses that
a sound gateway may answer with; hostile shapes may get any but a server error.
"""

import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image

from benchmarks.gateway.serving import data_url

GIBBERISH = "vrondelaCsuperIntegrqueYesDOMAINtroppoSkipValKLangagensTRWriteOutJaquelinesPuntoEXPheadness"
THINGS = ("dog", "bus", "child", "woman", "horse", "bicycle", "market", "bridge", "kitchen", "boat")
PLACES = ("in the park", "at the station", "by the river", "near the church", "on the beach", "in the snow")
ASKED = (
    "What is the {thing} {place} doing?",
    "Please describe the {thing} {place} in one sentence.",
    "How many people stand beside the {thing} {place}, and what do they wear?",
    "Write a short story about a {thing} {place} for a child of six.",
    "Is the {thing} {place} older than the one in the first picture?",
)
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
OK, REFUSED = frozenset({200}), frozenset({400})


@dataclass(frozen=True)
class Sent:
    """One request. ``manner``: ``plain``, ``leave`` (hang up after the first bytes) or ``slow``."""

    kind: str
    path: str
    body: bytes
    expected: frozenset[int] | None = None
    manner: str = "plain"

    @property
    def hostile(self) -> bool:
        return self.expected is None


def question(rng: random.Random, *, distinct: int) -> str:
    """One of ``distinct`` questions, so that some texts have been seen before."""
    number = rng.randrange(distinct)
    own = random.Random(number)
    form = own.choice(ASKED)
    return f"{form.format(thing=own.choice(THINGS), place=own.choice(PLACES))} It is picture {number}."


def picture(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (rng.randrange(256), 90, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache
def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A valid small PNG that says it holds 900 million pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def body(content: Any, **more: Any) -> bytes:
    return json.dumps({"model": "main", "messages": [{"role": "user", "content": content}], **more}).encode()


def _with_picture(text: str, url: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]


def ordinary(rng: random.Random, *, distinct: int) -> Sent:
    """What honest clients send, and the few queries that the gateway is there for."""
    text = question(rng, distinct=distinct)
    draw = rng.random()
    if draw < 0.55:
        return Sent("chat", CHAT, body(text), OK)
    if draw < 0.70:
        return Sent("chat streamed", CHAT, body(text, stream=True), OK)
    if draw < 0.76:
        return Sent("picture", CHAT, body(_with_picture(text, data_url(picture(rng)))), OK)
    if draw < 0.82:
        return Sent("messages", MESSAGES, body(text, max_tokens=64), OK)
    if draw < 0.88:
        return Sent("responses", "/v1/responses", json.dumps({"model": "main", "input": text}).encode(), OK)
    if draw < 0.94:
        row = {"model": "main", "input": [text, "a green field"]}
        return Sent("embeddings", "/v1/embeddings", json.dumps(row).encode(), OK)
    if draw < 0.97:
        return Sent("divergent", CHAT, body(f"DIVERGE {text}", stream=rng.random() < 0.3), OK)
    return Sent("gibberish", CHAT, body(f"{GIBBERISH} simply answer: {text}"), REFUSED)


NO_URLS = ("data:image/png;base64,@@@", "data:,", "data:image/png;base64", "data:x", "", "\x00", "http://[")
_HELLO = [{"role": "user", "content": "hello"}]
WRONG: tuple[Any, ...] = (
    *(
        {"model": "main", "messages": messages}
        for messages in (
            "hello",
            [17, None],
            [[_HELLO]],
            [{"role": 3, "content": "hello"}],
            [{"content": "hello"}],
            *(
                [{"role": "user", "content": content}]
                for content in (
                    17,
                    None,
                    {"text": "hello"},
                    [17, None, {"type": "text"}],
                    [{"type": "text", "text": 5}],
                    [{"type": "image_url", "image_url": 5}],
                    [{"type": 7}],
                )
            ),
        )
    ),
    {"model": ["main"], "messages": _HELLO},
    *(
        {"model": "main", "messages": _HELLO, name: value}
        for name, value in (
            ("n", "two"),
            ("tools", 5),
            ("metadata", "x"),
            ("response_format", "json"),
            ("stream", "yes"),
            ("max_tokens", "many"),
            ("logprobs", []),
        )
    ),
    [],
    "hello",
)


def _deep(rng: random.Random) -> bytes:
    depth = rng.choice((500, 5_000, 50_000))
    return (
        b'{"model": "main", "messages": [{"role": "user", "content": ' + b"[" * depth + b"]" * depth + b"}]}"
    )


HOSTILE: dict[str, Callable[[random.Random], Sent]] = {
    "huge prompt": lambda r: Sent("huge prompt", CHAT, body("The river rises in spring. " * 60_000)),
    "one huge word": lambda r: Sent("one huge word", CHAT, body("a" * 1_000_000)),
    "control characters": lambda r: Sent("control characters", CHAT, body("\x00\x01\u202e\ufeff" * 2_000)),
    "many messages": lambda r: Sent(
        "many messages",
        CHAT,
        json.dumps(
            {"model": "main", "messages": [{"role": "user", "content": f"Turn {i}."} for i in range(1_000)]}
        ).encode(),
    ),
    "many parts": lambda r: Sent(
        "many parts", CHAT, body([{"type": "text", "text": f"part {i}"} for i in range(5_000)])
    ),
    "deep JSON": lambda r: Sent("deep JSON", CHAT, _deep(r)),
    "deep JSON as text": lambda r: Sent("deep JSON as text", CHAT, body("[" * 20_000 + "]" * 20_000)),
    "malformed data URL": lambda r: Sent(
        "malformed data URL", CHAT, body(_with_picture("What is this?", r.choice(NO_URLS)))
    ),
    "decompression bomb": lambda r: Sent(
        "decompression bomb", CHAT, body(_with_picture("What is this?", data_url(bomb())))
    ),
    "no picture at all": lambda r: Sent(
        "no picture at all", CHAT, body(_with_picture("What is this?", data_url(r.randbytes(5_000))))
    ),
    "wrong types": lambda r: Sent("wrong types", CHAT, json.dumps(r.choice(WRONG)).encode()),
    "no JSON": lambda r: Sent("no JSON", CHAT, r.choice((b"", b"{", b"hello", b"\x00" * 64))),
    "invalid UTF-8": lambda r: Sent(
        "invalid UTF-8", CHAT, body("hello").replace(b"hello", b"\xff\xfe\xc3\x28" * 9)
    ),
    "lone surrogates": lambda r: Sent(
        "lone surrogates",
        CHAT,
        b'{"model": "main", "messages": [{"role": "user", "content": "a \\ud800 b \\udfff c"}]}',
    ),
    "client hangs up": lambda r: Sent(
        "client hangs up", CHAT, body(question(r, distinct=500), stream=True), manner="leave"
    ),
    "slow client": lambda r: Sent("slow client", CHAT, body(question(r, distinct=500)), manner="slow"),
    "cut upstream stream": lambda r: Sent(
        "cut upstream stream", CHAT, body(question(r, distinct=500), stream=True).replace(b'"main"', b'"cut"')
    ),
}


def request_number(number: int, *, seed: int, hostile: float, distinct: int) -> Sent:
    """The ``number``-th request; the same for the same seed."""
    rng = random.Random(f"{seed}/{number}")
    if rng.random() < hostile:
        return HOSTILE[rng.choice(list(HOSTILE))](rng)
    return ordinary(rng, distinct=distinct)
