"""What one call's two phases share: the reference answer under way, what the request phase found."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
    """

    def __init__(self, *, max_calls: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_calls, self._ttl_s, self._clock = max_calls, ttl_s, clock
        self._states: OrderedDict[str, CallState] = OrderedDict()

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

    def take(self, call: str) -> CallState | None:
        """The state, removed; ``None`` when there was none."""
        return self._states.pop(call, None)

    def forget(self, call: str) -> None:
        """Nobody waits for this call any more: its reference call is stopped."""
        state = self._states.pop(call, None)
        if state is not None and state.reference is not None:
            state.reference.cancel()
