"""Asking models of the gateway's own: the reference answer beside the main call, and what checks ask."""

import asyncio
import contextvars
import ipaddress
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gateway_plugin.screening.base import AskError, Status

# True inside a call that the gateway makes itself: screening it would recurse without end.
IN_REFERENCE_CALL: contextvars.ContextVar[bool] = contextvars.ContextVar("sif_reference_call", default=False)

# What the client asked for that shapes the answer; tools and formats are left out on purpose,
# and stop words too: one that every answer holds would leave the reference with nothing to say.
FORWARDED = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")

Complete = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class ReferenceAnswer:
    """``text`` is the answer, or ``None`` with ``failure`` naming the kind (``reference_timeout``, ...).

    left_out: what the comparison is where no model was asked: skipped on purpose (sampling, opt-out),
        unscorable (the query cannot be put to another model), failed (nobody to ask, the budget is spent).
    cost: in US dollars as LiteLLM's price list has it; 0 where unknown.
    """

    text: str | None = field(repr=False)
    failure: str = ""
    left_out: Status | None = None
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


class CallBudget:
    """At most ``calls`` in any 60 seconds; ``None`` is no limit."""

    def __init__(self, calls: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls, self._clock = calls, clock
        self._made: deque[float] = deque()

    def take(self) -> bool:
        """Whether one more call may be made now; counts it."""
        if self._calls is None:
            return True
        now = self._clock()
        while self._made and self._made[0] <= now - 60.0:
            self._made.popleft()
        if len(self._made) >= self._calls:
            return False
        self._made.append(now)
        return True


def is_local(address: str | None) -> bool:
    """Whether an API base stays inside the operator's network: loopback, private or a name without dots.

    A host name is judged by its form (``localhost``, ``ollama``, ``*.local``, ``*.internal``, ``*.svc``),
    never looked up. No address at all is a public provider.
    """
    host = urlsplit(address or "").hostname
    if not host:
        return False
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".svc", ".localhost"))
    return parsed.is_loopback or parsed.is_private


async def ask_model(
    complete: Complete,
    *,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    timeout_s: float,
    max_tokens: int,
    metadata: Mapping[str, Any],
    options: Mapping[str, Any],
) -> ReferenceAnswer:
    """One answer of ``model`` within ``timeout_s`` seconds, never retried. Raises :class:`AskError`.

    Run it as a task of its own: it marks its context so that the gateway lets this call through.
    """
    IN_REFERENCE_CALL.set(True)
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            answer = await complete(
                model=model,
                messages=list(messages),
                stream=False,
                num_retries=0,
                timeout=timeout_s,
                max_tokens=max_tokens,
                metadata=dict(metadata),
                **options,
            )
        text = answer.choices[0].message.content
    except TimeoutError:
        raise AskError("timeout") from None
    except Exception as error:  # whatever a provider raises: the policy decides, the client's call goes on
        late = "timeout" in type(error).__name__.lower()
        raise AskError("timeout" if late else "error") from error
    if not isinstance(text, str) or not text.strip():
        raise AskError("empty")
    usage = getattr(answer, "usage", None)
    hidden = getattr(answer, "_hidden_params", None) or {}
    cost = hidden.get("response_cost") if isinstance(hidden, Mapping) else None
    return ReferenceAnswer(
        text=text,
        seconds=time.monotonic() - started,
        prompt_tokens=int(getattr(usage, "prompt_tokens", 0) or 0),
        completion_tokens=int(getattr(usage, "completion_tokens", 0) or 0),
        cost=float(cost) if isinstance(cost, int | float) else 0.0,
    )


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
    """The reference's answer under the client's own sampling options; failures are values."""
    started = time.monotonic()
    asked = (
        request.get("max_completion_tokens") or request.get("max_tokens") or request.get("max_output_tokens")
    )
    limit = min(asked, max_tokens) if isinstance(asked, int) and asked > 0 else max_tokens
    try:
        return await ask_model(
            complete,
            model=model,
            messages=messages,
            timeout_s=timeout_s,
            max_tokens=limit,
            metadata=metadata,
            options={key: request[key] for key in FORWARDED if request.get(key) is not None},
        )
    except AskError as error:
        return ReferenceAnswer(
            text=None, failure=f"reference_{error.kind}", seconds=time.monotonic() - started
        )
