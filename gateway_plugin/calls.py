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


class CallStates:
    """Call -> state, at most ``max_calls`` of them, none older than ``ttl_s`` seconds.

    A call whose main model fails never reaches the response phase, so states must die by themselves.

    max_kept: characters of messages (pictures as base64) that are kept for the response phase, of all calls
        together; beyond it the oldest calls' messages are given up.
    """

    def __init__(
        self,
        *,
        max_calls: int,
        ttl_s: float,
        max_kept: int = 256 * 2**20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_calls, self._ttl_s, self._max_kept, self._clock = max_calls, ttl_s, max_kept, clock
        self._states: OrderedDict[str, CallState] = OrderedDict()
        self._kept: OrderedDict[str, int] = OrderedDict()  # characters of the messages that a call keeps

    def __len__(self) -> int:
        return len(self._states)

    def open(self, call: str, *, audit_id: str = "") -> CallState:
        """A fresh state for ``call``; forgets what is too old or too much."""
        now = self._clock()
        self.forget(call)
        while self._states:
            oldest = next(iter(self._states))
            if len(self._states) < self._max_calls and self._states[oldest].born > now - self._ttl_s:
                break
            self.forget(oldest)
        state = self._states[call] = CallState(born=now, audit_id=audit_id)
        return state

    def keep(self, call: str, messages: tuple[Mapping[str, Any], ...]) -> None:
        """Keep an open call's messages for its response phase."""
        self._states[call].messages = messages
        self._kept[call] = sum(len(message_text(message) or "") for message in messages)
        self._kept[call] += sum(map(len, image_urls(messages)))
        while len(self._kept) > 1 and sum(self._kept.values()) > self._max_kept:
            oldest, _ = self._kept.popitem(last=False)
            self._states[oldest].messages = ()

    def take(self, call: str) -> CallState | None:
        """The state, removed; ``None`` when there was none."""
        self._kept.pop(call, None)
        return self._states.pop(call, None)

    def forget(self, call: str) -> None:
        """Nobody waits for this call any more: its reference call is stopped."""
        self._kept.pop(call, None)
        state = self._states.pop(call, None)
        if state is not None and state.reference is not None:
            state.reference.cancel()
