"""A target that is a model of the LiteLLM proxy around us, asked through the proxy's own router."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

from pydantic import SecretStr

from probes.config import ConfigError, TargetConfig
from probes.targets.base import NoAnswerError
from probes.targets.litellm_failures import chain_of
from probes.targets.litellm_target import LiteLLMTarget
from probes.targets.redaction import Redaction

PREFIX = "proxy/"
"""``proxy/ALIAS`` is a model of the proxy around us; litellm's ``litellm_proxy/`` asks a proxy by its URL."""

LATE_S = 10.0
"""How much longer than the router's own timeout an answer is waited for, seconds."""

_NO_CONNECTION = (
    "ClientConnector",
    "ConnectionTimeoutError",
    "ConnectionRefusedError",
    "gaierror",
    "UnsupportedProtocol",
    "InvalidURL",
)

_NOT_OURS = (
    "api_base",
    "api_key_env",
    "api_key_file",
    "headers",
    "headers_env",
    "proxy",
    "ca_file",
    "allow",
)


class RouterTarget(LiteLLMTarget):
    """Ask an alias once: no retry, no fallback to another model, no cache, no line in the proxy's logs.

    Args:
        name: the configured name.
        alias: the proxy's name of the model.
        router: the proxy's router as it is now, None before the proxy has made one.
        loop: the event loop that the proxy runs on; questions come from other threads.
        timeout_s: connect and read timeout, seconds.
        system_prompt: goes before every question.
    """

    def __init__(
        self,
        *,
        name: str,
        alias: str,
        router: Callable[[], Any],
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        system_prompt: str | None = None,
    ) -> None:
        super().__init__(
            name=name, model=f"{PREFIX}{alias}", timeout_s=timeout_s, system_prompt=system_prompt
        )
        self.alias = alias
        self._router = router
        self._loop = loop

    def _complete(self, *, messages: list[dict[str, Any]], max_tokens: int) -> Any:
        """Put the question to the router, on the proxy's event loop."""
        router = self._router()
        if router is None:
            raise NoAnswerError("connection", "the proxy has no router yet", in_doubt=False)
        problem = alias_problem(router, self.alias)
        if problem is not None:
            raise NoAnswerError("misconfigured", problem, in_doubt=False)
        # as a retry, a fallback or a cache would have it, the answer would be false evidence
        asking = router.acompletion(
            model=self.alias,
            messages=messages,
            timeout=self.timeout_s,
            max_tokens=max_tokens,
            temperature=0.0,
            drop_params=True,
            num_retries=0,
            max_retries=0,
            disable_fallbacks=True,
            cache={"no-cache": True, "no-store": True},
            # the proxy's logging services must not learn the triggers
            **{"no-log": True},
        )
        try:
            sent = asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:
            asking.close()
            raise NoAnswerError("connection", "the proxy has stopped", in_doubt=False) from None
        try:
            return sent.result(self.timeout_s + LATE_S)
        except CancelledError:
            reason = "the proxy stopped before the answer came"
            raise NoAnswerError("interrupted", reason, in_doubt=True) from None
        except TimeoutError:
            sent.cancel()
            raise

    def _no_answer(self, error: Exception) -> NoAnswerError:
        """Failures that only a router has; the rest are litellm's."""
        name = type(error).__name__
        if name in ("RouterRateLimitError", "RouterRateLimitErrorBasic"):
            wait = getattr(error, "cooldown_time", None)
            return NoAnswerError(
                "rate_limited",
                "the proxy lets no deployment of the model be asked just now",
                in_doubt=False,
                retry_after_s=float(wait) if isinstance(wait, int | float) else None,
            )
        if name == "ContentPolicyViolationError" and error.__cause__ is error.__context__ is None:
            # made by the router from an answer whose finish reason is content_filter
            return NoAnswerError("content_policy", "the answer was filtered", in_doubt=True)
        failure = super()._no_answer(error)
        if failure.kind == "connection" and not any(map(_never_connected, chain_of(error))):
            reason = "the connection was cut before the answer was complete"
            return NoAnswerError("interrupted", reason, in_doubt=True)
        return failure

    def _redactions(self) -> Sequence[Redaction]:
        """The proxy's own credentials are its secrets, not only ours."""
        keys = [row.get("api_key") for row in _deployments(self._router(), self.alias)]
        of_the_proxy = [Redaction(api_key=SecretStr(key), headers={}) for key in keys if isinstance(key, str)]
        return (*of_the_proxy, *super()._redactions())


def make_router_target(
    target: TargetConfig, *, router: Callable[[], Any], loop: asyncio.AbstractEventLoop
) -> RouterTarget:
    """The target of a configuration whose model is ``proxy/ALIAS``. Raises ConfigError."""
    alias = target.model.removeprefix(PREFIX)
    if not alias:
        raise ConfigError(f"target {target.name}: model {PREFIX} names no model of the proxy")
    given = [key for key in _NOT_OURS if getattr(target, key)]
    if given:
        raise ConfigError(
            f"target {target.name}: {', '.join(given)}: not with model {target.model}, "
            "where the proxy's model_list says how it is asked"
        )
    return RouterTarget(
        name=target.name,
        alias=alias,
        router=router,
        loop=loop,
        timeout_s=target.timeout,
        system_prompt=target.system_prompt,
    )


def alias_problem(router: Any, alias: str) -> str | None:
    """Why the alias must not be asked, None where it may be."""
    rows = _deployments(router, alias)
    if not rows:
        return f"the proxy has no model {alias}"
    if any(row.get("silent_model") for row in rows):
        return f"the proxy mirrors the questions to model {alias} (silent_model): another would learn them"
    return None


def alias_warning(router: Any, alias: str) -> str | None:
    """What to know about evidence from this alias, None where there is nothing."""
    models = {str(row.get("model")) for row in _deployments(router, alias)}
    if len(models) > 1:
        return f"model {alias} is {len(models)} different models: what is found is about all of them together"
    return None


def _never_connected(link: BaseException) -> bool:
    """Whether this says that no connection came about.

    A router's calls go through aiohttp, and litellm makes httpx's ConnectError of aiohttp's ClientOSError:
    also of a connection that was reset with the question read.
    """
    kind = type(link)
    return kind.__module__.startswith("httpcore") or kind.__name__.startswith(_NO_CONNECTION)


def _deployments(router: Any, alias: str) -> list[dict[str, Any]]:
    """The ``litellm_params`` of what stands behind an alias."""
    rows = [] if router is None else router.get_model_list(model_name=alias) or []
    return [row.get("litellm_params") or {} for row in rows]
