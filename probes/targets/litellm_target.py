"""A target that litellm reaches: any provider by its model string, or an OpenAI-compatible URL."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import SecretStr

from probes.targets.base import Answer, AskFailure, FailureKind
from probes.targets.connection import MAX_REPLY_BYTES, open_client, trust
from probes.targets.retry_after import seconds_to_wait
from sif_offline.fingerprint.allow_header import AllowHeaderError, Signer
from sif_offline.fingerprint.images import to_data_url

LATE_S = 15.0
"""How much longer than its timeout a question may take as a whole: a timeout is of each read alone, and a
server may send a byte at a time.
"""

MAX_REPLY_CHARACTERS = 2**20
"""Longest reply kept, as ASCII JSON; what is asked for fits into a hundredth of it."""

LONGEST_TOKEN = 64
"""Characters that a token of an answer may have on average; ordinary ones have four."""

T = TypeVar("T")


def _load_litellm() -> ModuleType:
    """Import litellm late (seconds) and offline: its price list is the one it ships with."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    # Otherwise it prints "Give Feedback" to stdout on every failure.
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    module: ModuleType = litellm
    return module


class LiteLLMTarget:
    """Ask through ``litellm.completion``, once: its own retries and the SDK's are off.

    Args:
        name: the configured name, which opens every error message.
        model: litellm's model string, such as ``openai/owner`` or ``anthropic/claude-...``.
        api_base: the URL of an OpenAI-compatible server, or None for the provider's own.
        api_key: the credential. Where ``api_base`` is given and this is None, a placeholder is sent, so
            that a key from the environment never reaches a suspect's server.
        timeout_s: connect and read timeout, seconds.
        headers: extra HTTP headers.
        system_prompt: goes before every question.
        proxy, ca_file: of the connection to an ``openai/...`` model with an ``api_base``, which we make
            ourselves (:mod:`probes.targets.connection`); litellm makes the others.
        signer: signs each question for a gateway's allow-list; for ``openai/...`` models alone, which are
            sent what was signed.

    Raises:
        ConfigError: ``ca_file`` cannot be read.
    """

    def __init__(
        self,
        *,
        name: str,
        model: str,
        api_base: str | None = None,
        api_key: SecretStr | None = None,
        timeout_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
        system_prompt: str | None = None,
        proxy: str | None = None,
        ca_file: Path | None = None,
        signer: Signer | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.api_base = api_base
        self.timeout_s = timeout_s
        self.system_prompt = system_prompt
        self._headers = dict(headers or {})
        self._signer = signer
        self._api_key = api_key if api_key is not None or api_base is None else SecretStr("none")
        self._connect = None
        if api_base is not None and self._api_key is not None and model.startswith("openai/"):
            self._connect = partial(
                open_client,
                api_base=api_base,
                api_key=self._api_key,
                timeout_s=timeout_s,
                proxy=proxy,
                verify=trust(ca_file),
            )

    def __repr__(self) -> str:
        return f"LiteLLMTarget(name={self.name!r}, model={self.model!r}, api_base={self.api_base!r})"

    def prepare(self) -> None:
        """Import litellm: seconds, and no part of an answer's latency."""
        _load_litellm()

    def ask(self, *, image: bytes | None, prompt: str, max_tokens: int) -> Answer:
        """Ask with greedy decoding. ``image``: PNG bytes, sent unchanged as a data URL. Raises AskFailure."""
        self.prepare()
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        if image is not None:
            content.insert(0, {"type": "image_url", "image_url": {"url": to_data_url(image)}})
        messages: list[dict[str, Any]] = []
        if self.system_prompt is not None:
            messages.append({"role": "system", "content": self.system_prompt})
        messages.append({"role": "user", "content": content if image is not None else prompt})
        began = time.monotonic()
        try:
            complete = partial(self._complete, messages=messages, max_tokens=max_tokens)
            reply = within(complete, seconds=self.timeout_s + LATE_S)
            return self._answer(reply, time.monotonic() - began, max_tokens=max_tokens)
        except AskFailure:
            raise
        except Exception as error:  # litellm's tree is wide and not stable; a failure is data, not a crash
            raise self._failure(error) from None

    @cached_property
    def _client(self) -> Any:
        return None if self._connect is None else self._connect()

    def _complete(self, *, messages: list[dict[str, Any]], max_tokens: int) -> Any:
        """Send one question, once, and return litellm's reply; the way there is a subclass's to choose."""
        headers = {**self._headers, **self._signature(messages)}
        return _load_litellm().completion(
            model=self.model,
            messages=messages,
            api_base=self.api_base,
            api_key=self._api_key.get_secret_value() if self._api_key else None,
            timeout=self.timeout_s,
            extra_headers=headers or None,
            max_tokens=max_tokens,
            temperature=0.0,
            # a provider that knows no temperature is still asked
            drop_params=True,
            num_retries=0,
            max_retries=0,
            client=self._client,
        )

    def _signature(self, messages: list[dict[str, Any]]) -> Mapping[str, str]:
        if self._signer is None:
            return {}
        try:
            return self._signer.headers({"model": self.model.removeprefix("openai/"), "messages": messages})
        except AllowHeaderError as error:
            raise self._fail("misconfigured", str(error), in_doubt=False) from None

    def _answer(self, reply: Any, latency_s: float, *, max_tokens: int) -> Answer:
        # through ASCII: a reply may hold lone surrogates, which pydantic's own JSON refuses
        said = json.dumps(reply.model_dump(), default=str)
        if len(said) > MAX_REPLY_CHARACTERS:
            reason = f"answered {len(said):,} characters, over the limit of {MAX_REPLY_CHARACTERS:,}"
            raise self._fail("too_large", reason, in_doubt=True)
        raw = json.loads(said)
        choices = raw.get("choices") or []
        message = choices[0].get("message") if choices else None
        if not isinstance(message, dict):
            raise self._fail("not_chat", "answered a completion without any choices", in_doubt=True)
        extra = message.get("provider_specific_fields") or {}
        if isinstance(extra, dict) and extra.get("refusal"):
            message["refusal"] = extra["refusal"]  # where OpenAI's own format has it
        text = message.get("content")
        if isinstance(text, str) and len(text) > LONGEST_TOKEN * max_tokens:
            # every word of it would be kept as seen, for ever and in every round
            reason = f"answered {len(text):,} characters where {max_tokens} tokens were asked for"
            raise self._fail("too_large", reason, in_doubt=True)
        usage = raw.get("usage") or {}
        return Answer(
            text=text if isinstance(text, str) else "",
            finish_reason=str(choices[0].get("finish_reason") or ""),
            served_model=str(raw.get("model") or ""),
            latency_s=latency_s,
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            cost_usd=_amount(getattr(reply, "_hidden_params", {}).get("response_cost")),
            raw=raw,
        )

    def _fail(
        self,
        kind: FailureKind,
        reason: str,
        *,
        in_doubt: bool,
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> AskFailure:
        reason = self._redacted(reason)
        if self.api_base is not None:
            reason = f"{reason} ({self.api_base})"
        return AskFailure(
            target=self.name,
            reason=reason,
            kind=kind,
            in_doubt=in_doubt,
            retry_after_s=retry_after_s,
            status=status,
        )

    def _redacted(self, text: str) -> str:
        """Without our secrets; before a text is cut, or half of one could be left at its end."""
        secrets = [word for value in self._headers.values() for word in (value, *value.split())]
        if self._api_key is not None:
            secrets.append(self._api_key.get_secret_value())
        for secret in sorted(secrets, key=len, reverse=True):
            # placeholders ("none", "x") are no secrets, and replacing them would garble the message
            if len(secret) >= 6:
                text = text.replace(secret, "***")
        return text

    def _failure(self, error: Exception) -> AskFailure:
        """Name a failure from the chain of its causes: litellm's top class alone says too little."""
        chain = chain_of(error)
        names = {type(link).__name__ for link in chain}
        if names & {"ConnectError", "ConnectTimeout", "UnsupportedProtocol", "InvalidURL", "gaierror"}:
            innermost = str(chain[-1]) or type(chain[-1]).__name__
            return self._fail("connection", f"cannot be reached: {innermost}", in_doubt=False)
        if "RedirectedError" in names:
            reason = "redirects to another address, which is never followed"
            return self._fail("redirect", reason, in_doubt=False)
        if "ReplyTooLargeError" in names:
            return self._fail("too_large", f"answered more than {MAX_REPLY_BYTES:,} bytes", in_doubt=True)
        if names & {"ReadTimeout", "WriteTimeout", "PoolTimeout", "APITimeoutError"}:
            return self._fail("timeout", f"did not answer within {self.timeout_s:g} s", in_doubt=True)
        if names & {"ReadError", "WriteError", "RemoteProtocolError", "CloseError"}:
            reason = "the connection was cut before the answer was complete"
            return self._fail("interrupted", reason, in_doubt=True)
        status = _status(chain)
        if status is not None:
            return self._status_failure(status, chain)
        if "UnicodeDecodeError" in names:
            return self._fail("not_json", "answered JSON that is not UTF-8", in_doubt=True)
        if "JSONDecodeError" in names or "Received: '" in str(error):
            page = "<html" in str(error).lower() or "<!doctype" in str(error).lower()
            reason = "answered HTML instead of JSON" if page else "answered invalid JSON"
            return self._fail("not_json", reason, in_doubt=True)
        if "choices" in str(error):
            return self._fail("not_chat", "answered JSON that is no chat completion", in_doubt=True)
        if "Timeout" in names or "TimeoutError" in names:
            return self._fail("timeout", f"did not answer within {self.timeout_s:g} s", in_doubt=True)
        said = self._redacted(str(error).partition("Traceback")[0])[:200]
        if "Provider NOT provided" in said or "Missing credentials" in said or "AuthenticationError" in names:
            return self._fail("misconfigured", f"litellm sent nothing: {said}", in_doubt=False)
        # What is left is a reply that litellm's code for this provider could not read.
        return self._fail("not_chat", f"litellm could not read the answer: {said}", in_doubt=True)

    def _status_failure(self, status: int, chain: list[BaseException]) -> AskFailure:
        said = self._redacted(_server_message(chain))[:160]
        reason = f"answered HTTP {status}{': ' + said if said else ''}"
        if status == 429:
            wait = _retry_after(chain)
            return self._fail("rate_limited", reason, in_doubt=False, retry_after_s=wait, status=status)
        if status in (401, 403):
            return self._fail("auth", reason, in_doubt=False, status=status)
        policy = any(type(link).__name__ == "ContentPolicyViolationError" for link in chain)
        if policy or any(getattr(link, "code", None) == "content_policy_violation" for link in chain):
            return self._fail("content_policy", reason, in_doubt=True, status=status)
        # A 5xx may have been answered behind a proxy that gave up; a 4xx was turned away unread.
        return self._fail("http", reason, in_doubt=status >= 500 or status == 408, status=status)


def within(call: Callable[[], T], *, seconds: float) -> T:
    """What a call gives, if it does so in time; else TimeoutError, and a daemon thread is left to its end."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="ask", daemon=True).start()
    return done.result(seconds)


def _count(value: object) -> int | None:
    """A number of tokens as an endpoint gives it, None where it can be none."""
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def _amount(value: object) -> float | None:
    """US dollars as litellm counts them from what an endpoint says, None where that can be no price."""
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e6 else None


def chain_of(error: BaseException) -> list[BaseException]:
    """The error and everything that caused it, outermost first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _status(chain: list[BaseException]) -> int | None:
    """The HTTP status that the server really sent; litellm invents 500 where there was none."""
    for link in reversed(chain):
        response = getattr(link, "response", None)
        status = getattr(response, "status_code", None)
        module = type(link).__module__.partition(".")[0]
        if isinstance(status, int) and status >= 300 and module in ("httpx", "openai", "anthropic"):
            return status
    return None


def _retry_after(chain: list[BaseException]) -> float | None:
    """Retry-After in seconds from now; ``None`` where there is none that can be read."""
    for link in reversed(chain):
        headers = getattr(getattr(link, "response", None), "headers", None)
        value = headers.get("retry-after") if headers is not None else None
        if value is not None:
            return seconds_to_wait(str(value))
    return None


def _server_message(chain: list[BaseException]) -> str:
    """What the server's error body said, in one line."""
    for link in chain:
        body = getattr(link, "body", None)
        if isinstance(body, dict):
            inner = body.get("error", body)
            said = inner.get("message") if isinstance(inner, dict) else inner
            if isinstance(said, str):
                return " ".join(said.split())
    return ""
