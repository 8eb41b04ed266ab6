"""The header that lets an owner's own probes through a gateway's screening: ``X-Sif-Allow``.

A probe signs each request with a secret it shares with the gateway's operator::

    X-Sif-Allow: v1;name;timestamp;nonce;signature

``name`` says whose secret it is, ``timestamp`` is in Unix seconds, ``nonce`` is 32 hex digits, and
``signature`` is HMAC-SHA256 (RFC 2104), 64 hex digits, over the canonical JSON (RFC 8785) of
``{"body_digest", "name", "nonce", "timestamp", "v": 1}``. ``body_digest`` is the SHA-256 of the canonical
JSON of the request's parsed body, cut down to the fields that make the query (``model``, ``messages``,
``input``, ``prompt``) and what steers it beside them (``system``, ``instructions``); null counts as absent,
and fractions and names beyond ASCII, which no query has, cannot be signed.
What a client library or a proxy adds elsewhere (metadata, a user, sampling settings) is not covered and does
not matter; a proxy that rewrites one of these fields, as by an alias for the model, breaks the signature.

What it does not do: it encrypts nothing and proves nothing to a third party (both sides hold the secret). A
nonce is remembered by one :class:`AllowList`, so in one process and until it ends: a copied header, with its
very query, passes once in every other worker until the window closes.
"""

import hashlib
import heapq
import hmac
import json
import os
import re
import secrets as random_secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sif_offline.fingerprint.errors import SifError

HEADER = "X-Sif-Allow"
SIGNED_FIELDS = ("model", "messages", "input", "prompt", "system", "instructions")
MIN_SECRET_BYTES = 32

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADER = re.compile(rf"v1;({_NAME.pattern});([1-9][0-9]{{0,11}});([0-9a-f]{{32}});([0-9a-f]{{64}})")

# What a stranger may make us read before the signature is known: at most about 20 ms for the values, and no
# more than parsing the body took for the characters.
_MAX_VALUES = 10_000
_MAX_DEPTH = 32
_MAX_CHARACTERS = 32 * 2**20
_LARGEST_INT = 2**53 - 1
_PIECE = 2**18  # characters

Reason = Literal["malformed", "expired", "body", "signature", "replay", "full", "secret"]
_SAID: Mapping[Reason, str] = {
    "malformed": "not of the form v1;name;timestamp;nonce;signature",
    "expired": "its time is too far from this machine's",
    "body": "the body has no query that could be signed",
    "signature": "the signature is not that of anybody on the list over this query",
    "replay": "it was used before",
    "full": "too many were used within the window",
    "secret": f"needs a name of letters, digits, . _ - and a secret of at least {MIN_SECRET_BYTES} bytes",
}


class AllowHeaderError(SifError):
    """A header that lets nothing through, or a secret that cannot sign one.

    ``reason`` is one word of a fixed list (a label for a metric); neither it nor the message holds anything
    of the header, the body or a secret, and they do not tell an unknown name from a wrong signature.
    """

    def __init__(self, reason: Reason, *, where: str = HEADER) -> None:
        super().__init__(f"{where}: {_SAID[reason]}")
        self.reason: Reason = reason


def secret_from_environment(variable: str) -> bytes:
    """The secret in ``variable``, its text as UTF-8 without surrounding space: the same on both sides.

    ``openssl rand -hex 32`` makes a good one.

    Raises:
        AllowHeaderError: not set, or under 32 bytes.
    """
    secret = os.environ.get(variable, "").strip().encode("utf-8", "surrogateescape")
    if len(secret) < MIN_SECRET_BYTES:
        raise AllowHeaderError("secret", where=f"environment variable {variable}")
    return secret


def sign(body: Mapping[str, Any], *, name: str, secret: bytes, now: float) -> str:
    """The header's value for one request; a repeated request needs one of its own.

    Args:
        body: the request's JSON body, as it is sent.
        name: what the gateway knows the secret by: 1 to 64 of letters, digits, ``.``, ``_``, ``-``.
        secret: at least 32 bytes.
        now: Unix seconds.

    Raises:
        AllowHeaderError: a name or secret that cannot sign, or a body that holds no query.
    """
    _check(name, secret)
    timestamp, nonce = int(now), random_secrets.token_hex(16)
    signature = _signature(secret, name=name, timestamp=timestamp, nonce=nonce, digest=_body_digest(body))
    return f"v1;{name};{timestamp};{nonce};{signature}"


@dataclass(frozen=True)
class Signer:
    """Signs requests under one name. ``clock``: Unix seconds."""

    name: str
    secret: bytes = field(repr=False)
    clock: Callable[[], float] = field(default=time.time, repr=False)

    def headers(self, body: Mapping[str, Any]) -> dict[str, str]:
        """The header for one request with this JSON body. Raises AllowHeaderError."""
        return {HEADER: sign(body, name=self.name, secret=self.secret, now=self.clock())}


class AllowList:
    """The secrets that a gateway accepts signatures of. Safe to use from several threads.

    Verifying costs a walk over the query and a hash of it: tens of microseconds for a text, about 5 ms a MiB
    of picture, at worst 20 ms a MiB; an event loop may want a large body verified in a thread, which never
    holds the interpreter's lock for long.

    Args:
        secrets: the secret of each name, at least 32 bytes.
        window_s: how far a header's time may lie from this machine's, either way, seconds.
        clock: Unix seconds.
        max_nonces: signatures accepted within the window; only who holds a secret can use them up, and then
            further ones are refused rather than an old nonce forgotten.

    Raises:
        AllowHeaderError: a name or a secret that cannot sign.
    """

    def __init__(
        self,
        secrets: Mapping[str, bytes],
        *,
        window_s: float = 120.0,
        clock: Callable[[], float] = time.time,
        max_nonces: int = 100_000,
    ) -> None:
        for name, secret in secrets.items():
            _check(name, secret)
        self._secrets = dict(secrets)
        self._nobody = random_secrets.token_bytes(32)
        self._window_s, self._clock, self._max_nonces = window_s, clock, max_nonces
        self._used: set[tuple[str, str]] = set()
        self._until: list[tuple[float, tuple[str, str]]] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"AllowList(names={sorted(self._secrets)}, window_s={self._window_s:g})"

    def verify(self, header: str, body: Mapping[str, Any]) -> str:
        """The name whose signature ``header`` carries over the query in ``body``; each header passes once.

        Raises:
            AllowHeaderError: it does not let this query pass, whatever else is in header or body.
        """
        match = _HEADER.fullmatch(header) if isinstance(header, str) else None
        if match is None:
            raise AllowHeaderError("malformed")
        name, timestamp, nonce, signature = match[1], int(match[2]), match[3], match[4]
        self._check_time(timestamp)
        known = self._secrets.get(name, self._nobody)  # an unknown name costs as much time as a known one
        expected = _signature(known, name=name, timestamp=timestamp, nonce=nonce, digest=_body_digest(body))
        if not hmac.compare_digest(expected, signature):
            raise AllowHeaderError("signature")
        self._use(name, nonce, timestamp=timestamp)
        return name

    def _check_time(self, timestamp: int) -> float:
        now = self._clock()
        if abs(now - timestamp) > self._window_s:
            raise AllowHeaderError("expired")
        return now

    def _use(self, name: str, nonce: str, *, timestamp: int) -> None:
        with self._lock:
            # again: while a large body was read, another thread may have forgotten what is too old by now
            now = self._check_time(timestamp)
            while self._until and self._until[0][0] < now:
                self._used.discard(heapq.heappop(self._until)[1])
            if (name, nonce) in self._used:
                raise AllowHeaderError("replay")
            if len(self._used) >= self._max_nonces:
                raise AllowHeaderError("full")
            self._used.add((name, nonce))
            heapq.heappush(self._until, (timestamp + self._window_s, (name, nonce)))


def _check(name: str, secret: bytes) -> None:
    if _NAME.fullmatch(name) is None or len(secret) < MIN_SECRET_BYTES:
        raise AllowHeaderError("secret", where=f"{HEADER}: {name!r}")


def _signature(secret: bytes, *, name: str, timestamp: int, nonce: str, digest: str) -> str:
    signed = {"v": 1, "name": name, "timestamp": timestamp, "nonce": nonce, "body_digest": digest}
    return hmac.digest(secret, _canonical(signed), "sha256").hex()


def _body_digest(body: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form of the body's query. Raises AllowHeaderError and nothing else."""
    if not isinstance(body, Mapping):
        raise AllowHeaderError("body")
    query = {field: body[field] for field in SIGNED_FIELDS if body.get(field) is not None}
    if not query.keys() & {"messages", "input", "prompt"} or not _is_plain(query):
        raise AllowHeaderError("body")
    try:
        digest = hashlib.sha256()
        for piece in json_pieces(query):
            digest.update(piece.encode())
        return digest.hexdigest()
    except UnicodeEncodeError:  # a lone surrogate
        raise AllowHeaderError("body") from None


def _canonical(plain: Mapping[str, Any]) -> bytes:
    """RFC 8785, for values that ``_is_plain``: there the standard library's encoder writes just that."""
    return "".join(json_pieces(plain)).encode()


def json_pieces(value: Any, *, ensure_ascii: bool = False) -> Iterator[str]:
    """Compact JSON with sorted names, as ``json.dumps`` writes it, in pieces of about 256 Ki characters.

    ``json.dumps`` holds the interpreter's lock until it is done, 0.1 s and more for 20 MB: an event loop
    would wait for it even if it ran in another thread.
    """
    if isinstance(value, dict):
        yield "{"
        for number, name in enumerate(sorted(value)):
            yield f"{',' if number else ''}{json.dumps(name, ensure_ascii=ensure_ascii)}:"
            yield from json_pieces(value[name], ensure_ascii=ensure_ascii)
        yield "}"
    elif isinstance(value, list | tuple):
        yield "["
        for number, row in enumerate(value):
            if number:
                yield ","
            yield from json_pieces(row, ensure_ascii=ensure_ascii)
        yield "]"
    elif isinstance(value, str) and len(value) > _PIECE:
        yield '"'
        for start in range(0, len(value), _PIECE):
            yield json.dumps(value[start : start + _PIECE], ensure_ascii=ensure_ascii)[1:-1]
        yield '"'
    else:
        yield json.dumps(value, ensure_ascii=ensure_ascii)


def _is_plain(query: Mapping[str, Any]) -> bool:
    """Whether the canonical form is the plain one (no fraction, every integer exact, ASCII names) and takes
    bounded time: so many values, so deep, so many characters.
    """
    values = characters = 0
    level: list[Any] = [query]
    for _ in range(_MAX_DEPTH):
        deeper: list[Any] = []
        for value in level:
            if isinstance(value, str):
                characters += len(value)
            elif isinstance(value, dict | list | tuple):
                values += len(value)
                if values > _MAX_VALUES:
                    return False
                if isinstance(value, dict):
                    if not all(isinstance(name, str) and name.isascii() for name in value):
                        return False
                    characters += sum(map(len, value))
                deeper.extend(value.values() if isinstance(value, dict) else value)
            elif isinstance(value, int):
                if not -_LARGEST_INT <= value <= _LARGEST_INT:
                    return False
            elif value is not None:
                return False
        if characters > _MAX_CHARACTERS:
            return False
        if not deeper:
            return True
        level = deeper
    return False
