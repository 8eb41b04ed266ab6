"""What one call's two phases share: the reference answer under way, what the request phase found."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway_plugin.exchange import image_urls, message_text
from gateway_plugin.reference import ReferenceAnswer
from gateway_plugin.screening.base import Finding


@dataclass(kw_only=True)
class CallState:
    """What the request phase leaves for the response phase of the same call."""

    born: float
    audit_id: str
    reference: "asyncio.Future[ReferenceAnswer] | None" = None
    findings: tuple[Finding, ...] = ()
    # only where a check of the response phase wants them
    messages: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    wants_replacement: str = ""  # the check that asked for it before the model was
    exempt: bool = False  # an allow-listed caller
    lost: bool = False  # it was too old, or others needed its place: no reference, no messages


class CallStates:
    """Call -> state, at most ``max_calls`` of them, none older than ``ttl_s`` seconds.

    A call whose main model fails never reaches the response phase, so states must die by themselves. Where
    there are too many the oldest goes that no replacement waits in, or the oldest of all. What was found of
    as many lost calls is kept: their answers may still come, and a replacement that was asked for must not be
    forgotten with its reference.

    max_kept: characters of messages (pictures as base64) that are kept for the response phase, of all calls
        together; beyond it the oldest calls' messages are given up.
    on_lost: told of each lost state: ``expired`` or ``full``.
    """

    def __init__(
        self,
        *,
        max_calls: int,
        ttl_s: float,
        max_kept: int = 256 * 2**20,
        clock: Callable[[], float] = time.monotonic,
        on_lost: Callable[[str], None] = lambda kind: None,
    ) -> None:
        self._max_calls, self._ttl_s, self._max_kept, self._clock = max_calls, ttl_s, max_kept, clock
        self._on_lost = on_lost
        self._plain: OrderedDict[str, CallState] = OrderedDict()
        self._replacing: OrderedDict[str, CallState] = OrderedDict()
        self._lost: OrderedDict[str, CallState] = OrderedDict()
        self._kept: OrderedDict[str, int] = OrderedDict()  # characters of the messages that a call keeps

    def __len__(self) -> int:
        return len(self._plain) + len(self._replacing)

    def open(self, call: str, *, audit_id: str = "", wants_replacement: str = "") -> CallState:
        """A fresh state for ``call``; forgets what is too old or too much."""
        now = self._clock()
        self.forget(call)
        for states in (self._plain, self._replacing):
            while states and next(iter(states.values())).born <= now - self._ttl_s:
                self._lose(states, "expired")
        while len(self) >= self._max_calls:
            self._lose(self._plain or self._replacing, "full")
        state = CallState(born=now, audit_id=audit_id, wants_replacement=wants_replacement)
        (self._replacing if wants_replacement else self._plain)[call] = state
        return state

    def keep(self, call: str, messages: tuple[Mapping[str, Any], ...]) -> None:
        """Keep an open call's messages for its response phase."""
        self._open(call).messages = messages
        self._kept[call] = sum(len(message_text(message) or "") for message in messages)
        self._kept[call] += sum(map(len, image_urls(messages)))
        while len(self._kept) > 1 and sum(self._kept.values()) > self._max_kept:
            oldest, _ = self._kept.popitem(last=False)
            self._open(oldest).messages = ()

    def take(self, call: str) -> CallState | None:
        """The state, removed; ``None`` when there was none."""
        self._kept.pop(call, None)
        found = (states.pop(call, None) for states in (self._plain, self._replacing, self._lost))
        return next(filter(None, found), None)

    def forget(self, call: str) -> None:
        """Nobody waits for this call any more: its reference call is stopped."""
        state = self.take(call)
        if state is not None and state.reference is not None:
            state.reference.cancel()

    def _open(self, call: str) -> CallState:
        return self._plain[call] if call in self._plain else self._replacing[call]

    def _lose(self, states: OrderedDict[str, CallState], kind: str) -> None:
        call, state = next(iter(states.items()))
        self.forget(call)
        state.reference, state.messages, state.lost = None, (), True
        self._lost[call] = state
        while len(self._lost) > self._max_calls:
            self._lost.popitem(last=False)
        self._on_lost(kind)
