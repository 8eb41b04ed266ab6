"""Which answers belong to which queries, for a proxy that names its calls by an id that clients may choose.

An id is bound to who asks (the proxy's key, the client's key and team), so no caller can touch another's
calls. One caller can still give one id to several calls at once:

- the same query under one id opens one state a call, and every answer takes one of them. At most
  ``MAX_WAITING`` may wait at once: one more is refused. Were the oldest dropped instead, one answer would
  find no state, and a strange query repeated often enough would get it unscreened where checks fail open;
- another query under an id that still waits for its answer is refused, or it would take the first one's
  state and with it a replacement that waits there.
"""

import hashlib
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sif_offline.fingerprint.allow_header import json_pieces

MAX_WAITING = 16
_LOOKED_AT = 1_000  # of the oldest ids, for one that nobody waits under


class IdInUseError(Exception):
    """Another query waits for its answer under this id, or too many do."""


@dataclass(kw_only=True)
class Known:
    """What is kept of an id. waiting: the engine's names of the calls that have no answer yet.

    said: the digest of the last answer and the reply to it, because a proxy may ask twice about one answer.
    """

    query: bytes
    model: str
    tools: bool
    born: float
    waiting: list[str] = field(default_factory=list)
    said: tuple[bytes, Mapping[str, Any]] | None = None


class GuardrailCalls:
    """At most ``max_calls`` ids, none older than ``ttl_s`` seconds."""

    def __init__(self, *, max_calls: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_calls, self._ttl_s, self._clock = max_calls, ttl_s, clock
        self._known: OrderedDict[str, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def open(self, key: str, *, query: bytes, model: str, tools: bool) -> str:
        """The engine's name for a new call under ``key``. ``query``: a digest of what is asked, model and
        tools included. Raises :class:`IdInUseError`."""
        now, known = self._clock(), self.find(key)
        if known is not None and known.waiting and known.query != query:
            raise IdInUseError
        call = uuid.uuid4().hex
        waiting = known.waiting if known is not None and known.query == query else []
        if len(waiting) >= MAX_WAITING:
            raise IdInUseError
        self._known.pop(key, None)
        while len(self._known) >= self._max_calls:
            oldest = islice(self._known, _LOOKED_AT)
            del self._known[next((k for k in oldest if not self._known[k].waiting), next(iter(self._known)))]
        self._known[key] = Known(query=query, model=model, tools=tools, born=now, waiting=[*waiting, call])
        return call

    def close(self, key: str, call: str) -> None:
        """The call will have no answer."""
        known = self._known.get(key)
        if known is not None and call in known.waiting:
            known.waiting.remove(call)

    def find(self, key: str) -> Known | None:
        """What is known of ``key``, unless it is too old."""
        while self._known and next(iter(self._known.values())).born <= self._clock() - self._ttl_s:
            self._known.popitem(last=False)
        return self._known.get(key)


def digest_of(value: Any) -> bytes:
    """SHA-256 of a JSON value; a large one belongs in a thread (0.1 s for 25 MB)."""
    digest = hashlib.sha256()
    for piece in json_pieces(value, ensure_ascii=True):
        digest.update(piece.encode())
    return digest.digest()
