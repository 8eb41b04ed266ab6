"""A target that litellm reaches: any provider by its model string, or an OpenAI-compatible URL."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import SecretStr

from probes.targets.base import Answer, NoAnswerError
from probes.targets.connection import open_client, trust
from probes.targets.litellm_failures import no_answer_of
from probes.targets.redaction import Redaction
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
        self._redaction = Redaction(api_key=self._api_key, headers=self._headers)
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
        """Import litellm and what its client imports late: seconds, and no part of an answer's latency."""
        _load_litellm()
        if self._client is not None:
            _ = self._client.chat.completions

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
        except NoAnswerError as error:
            failure = error
        except Exception as error:  # litellm's tree is wide and not stable; a failure is data, not a crash
            failure = self._no_answer(error)
        where = "" if self.api_base is None else f" ({self.api_base})"
        raise failure.at(self.name, reason=self._redacted(failure.reason) + where)

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
            raise NoAnswerError("misconfigured", str(error), in_doubt=False) from None

    def _no_answer(self, error: Exception) -> NoAnswerError:
        """Name a failure of :meth:`_complete`."""
        return no_answer_of(error, timeout_s=self.timeout_s, redacted=self._redacted)

    def _redacted(self, text: str) -> str:
        """Without secrets."""
        for redaction in self._redactions():
            text = redaction(text)
        return text

    def _redactions(self) -> Sequence[Redaction]:
        """Of secrets, ours and of whoever makes the connection."""
        return (self._redaction,)

    def _answer(self, reply: Any, latency_s: float, *, max_tokens: int) -> Answer:
        # through ASCII: a reply may hold lone surrogates, which pydantic's own JSON refuses
        said = json.dumps(reply.model_dump(), default=str)
        if len(said) > MAX_REPLY_CHARACTERS:
            reason = f"answered {len(said):,} characters, over the limit of {MAX_REPLY_CHARACTERS:,}"
            raise NoAnswerError("too_large", reason, in_doubt=True)
        for redaction in self._redactions():  # a raw reply is kept for ever, and shown as evidence
            said = redaction.in_json(said)
        raw = json.loads(said)
        choices = raw.get("choices") or []
        message = choices[0].get("message") if choices else None
        if not isinstance(message, dict):
            raise NoAnswerError("not_chat", "answered a completion without any choices", in_doubt=True)
        extra = message.get("provider_specific_fields") or {}
        if isinstance(extra, dict) and extra.get("refusal"):
            message["refusal"] = extra["refusal"]  # where OpenAI's own format has it
        text = message.get("content")
        if isinstance(text, str) and len(text) > LONGEST_TOKEN * max_tokens:
            # every word of it would be kept as seen, for ever and in every round
            reason = f"answered {len(text):,} characters where {max_tokens} tokens were asked for"
            raise NoAnswerError("too_large", reason, in_doubt=True)
        usage = raw.get("usage") or {}
        return Answer(
            text=text if isinstance(text, str) else "",
            finish_reason=str(choices[0].get("finish_reason") or ""),
            served_model=self._redacted(str(raw.get("model") or "")),
            latency_s=latency_s,
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            cost_usd=_amount(getattr(reply, "_hidden_params", {}).get("response_cost")),
            raw=raw,
        )


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
