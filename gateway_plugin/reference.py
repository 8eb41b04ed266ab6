"""The reference model's answer, asked for beside the main call, and what one call's two phases share."""

import asyncio
import contextvars
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway_plugin.screening.base import Finding

# True inside a call that a guardrail of ours makes itself: screening it would recurse without end.
IN_REFERENCE_CALL: contextvars.ContextVar[bool] = contextvars.ContextVar("sif_reference_call", default=False)

# What the client asked for that shapes the answer; tools and formats are left out on purpose.
FORWARDED = ("temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty")

Complete = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class ReferenceAnswer:
    """``text`` is the answer, or ``None`` with ``failure`` naming the kind (``reference_timeout``, ...)."""

    text: str | None
    failure: str = ""
    seconds: float = 0.0


@dataclass(kw_only=True)
class CallState:
    """What the request phase leaves for the response phase of the same call."""

    born: float
    reference: "asyncio.Task[ReferenceAnswer] | None" = None
    wants_replacement: Finding | None = None


class CallStates:
    """Call id -> state, at most ``max_calls`` of them, none older than ``ttl_s``.

    A call whose main model fails never reaches the response phase, so states must die by themselves.
    """

    def __init__(self, *, max_calls: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_calls, self._ttl_s, self._clock = max_calls, ttl_s, clock
        self._states: OrderedDict[str, CallState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def open(self, call_id: str) -> CallState:
        """A fresh state for ``call_id``; forgets what is too old or too much."""
        now = self._clock()
        self._drop(call_id)
        while self._states:
            oldest = next(iter(self._states))
            if len(self._states) < self._max_calls and self._states[oldest].born > now - self._ttl_s:
                break
            self._drop(oldest)
        state = self._states[call_id] = CallState(born=now)
        return state

    def take(self, call_id: str) -> CallState | None:
        """The state, removed; ``None`` when there was none."""
        return self._states.pop(call_id, None)

    def _drop(self, call_id: str) -> None:
        state = self._states.pop(call_id, None)
        if state is not None and state.reference is not None:
            state.reference.cancel()


async def ask_reference(
    complete: Complete,
    *,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    request: Mapping[str, Any],
    metadata: Mapping[str, Any],
    timeout_s: float,
    max_tokens: int,
) -> ReferenceAnswer:
    """One answer of ``model`` within ``timeout_s`` seconds, never retried; failures are values.

    Run it as a task of its own: it marks its context so that the guardrail lets this call through.
    """
    IN_REFERENCE_CALL.set(True)
    started = time.monotonic()
    asked = request.get("max_completion_tokens") or request.get("max_tokens")
    limit = min(asked, max_tokens) if isinstance(asked, int) and asked > 0 else max_tokens
    options = {key: request[key] for key in FORWARDED if request.get(key) is not None}
    failure = "reference_error"
    try:
        async with asyncio.timeout(timeout_s):
            answer = await complete(
                model=model,
                messages=list(messages),
                stream=False,
                num_retries=0,
                timeout=timeout_s,
                max_tokens=limit,
                metadata=dict(metadata),
                **options,
            )
        text = answer.choices[0].message.content
        if isinstance(text, str) and text.strip():
            return ReferenceAnswer(text=text, seconds=time.monotonic() - started)
        failure = "reference_empty"
    except TimeoutError:
        failure = "reference_timeout"
    except Exception as error:  # whatever a provider raises: the policy decides, the client's call goes on
        if "timeout" in type(error).__name__.lower():
            failure = "reference_timeout"
    return ReferenceAnswer(text=None, failure=failure, seconds=time.monotonic() - started)
