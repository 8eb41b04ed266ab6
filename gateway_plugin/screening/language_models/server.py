"""A reference language model behind an OpenAI-compatible server that tells prompt log-probabilities.

Two ways to ask ``/v1/completions``, and vLLM answers both: ``echo`` with ``logprobs`` and no new tokens (the
older OpenAI API; ``choices[i].logprobs.token_logprobs``), and vLLM's own ``prompt_logprobs``
(``choices[i].prompt_logprobs``: a mapping per token from token id to ``{"logprob": ...}``). In both the first
token of a prompt has none.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx
import numpy as np

from gateway_plugin.screening.language_models.base import LanguageModelError, Surprisals
from gateway_plugin.screening.texts import text_ends

CHUNK_CHARACTERS = 1_024  # a longer text is scored in pieces, each a prompt of its own
CHARACTERS_A_TOKEN = 4
MAX_PROMPTS = 16  # in one call
MAX_RESPONSE_BYTES = 32 * 2**20
MAX_NATS = 100.0  # servers write "impossible" as -9999 or so; more than this says no more

EMPTY: Surprisals = np.zeros(0, dtype=np.float32)

Kind = Literal["unreachable", "timeout", "status", "too_large", "garbage"]


class LanguageModelServerError(LanguageModelError):
    """The server did not give usable log-probabilities. ``kind``: unreachable, timeout, status (not 200),
    too_large, garbage (also: not a number, or the wrong number of tokens)."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ServerLM:
    """Scores texts by a server's log-probabilities. Blocks; keeps its connections; safe for several threads.

    Args:
        url: the API's base, such as ``http://127.0.0.1:8000/v1``.
        model: the served model's name.
        form: ``echo``, or ``prompt_logprobs`` as vLLM has it.
        opening: text in front of every scored text, at least one token that the server's tokenizer does not
            merge with what follows: a line end, or the opening of a user's turn.
        api_key: sent as a bearer token; never shown.
        timeout_s: for each call as a whole.
        transport: for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        form: Literal["echo", "prompt_logprobs"] = "echo",
        opening: str = "\n",
        api_key: str | None = None,
        timeout_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not opening:
            raise ValueError("the first token of a prompt has no log-probability: an opening is needed")
        self._where, self._timeout_s = _shown(url), timeout_s
        self._model, self._form, self._opening = model, form, opening
        self._opening_tokens: int | None = None
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=4),
            follow_redirects=False,
            transport=transport,
        )
        self._endpoint = f"{url.rstrip('/')}/completions"

    def __repr__(self) -> str:
        return f"ServerLM({self._where}, model={self._model!r}, form={self._form!r})"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def token_surprisals(self, texts: Sequence[str], *, max_tokens: int) -> list[tuple[Surprisals, int]]:
        """Surprisal in nats of each token given those before it in its piece, at most 100 a token.

        How many tokens a text has only the server knows: of a text above ``4 * max_tokens`` characters the
        two ends are sent, and of more than ``max_tokens`` scored tokens the two ends are kept.

        Raises:
            LanguageModelServerError: see there.
        """
        pieces: list[str] = []
        owner: list[int] = []
        whole: list[bool] = []
        for index, text in enumerate(texts):
            shown = text_ends(text, characters=CHARACTERS_A_TOKEN * max_tokens)
            whole.append(shown is text)
            for start in range(0, len(shown), CHUNK_CHARACTERS):
                pieces.append(shown[start : start + CHUNK_CHARACTERS])
                owner.append(index)
        parts: list[list[Surprisals]] = [[] for _ in texts]
        if pieces:
            skip = self._tokens_of_opening()
            for start in range(0, len(pieces), MAX_PROMPTS):
                batch = pieces[start : start + MAX_PROMPTS]
                for index, nats in zip(
                    owner[start:], self._nats([self._opening + p for p in batch]), strict=False
                ):
                    if len(nats) < skip or any(value is None for value in nats[skip:]):
                        raise self._garbage("a token of the text has no log-probability")
                    parts[index].append(np.array(nats[skip:], dtype=np.float32))
        return [
            _bounded(np.concatenate(scored) if scored else EMPTY, complete=complete, max_tokens=max_tokens)
            for scored, complete in zip(parts, whole, strict=True)
        ]

    def _tokens_of_opening(self) -> int:
        if self._opening_tokens is None:
            (nats,) = self._nats([self._opening])
            self._opening_tokens = len(nats)
        return self._opening_tokens

    def _nats(self, prompts: list[str]) -> list[list[float | None]]:
        """One list a prompt: surprisal of each of its tokens, ``None`` for the first."""
        body: dict[str, Any] = {"model": self._model, "prompt": prompts, "temperature": 0}
        if self._form == "echo":
            body |= {"max_tokens": 0, "echo": True, "logprobs": 1}
        else:
            body |= {"max_tokens": 1, "prompt_logprobs": 0}
        choices = self._posted(body).get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise self._garbage("no list of choices")
        by_index = {choice.get("index"): choice for choice in choices}
        if len(choices) != len(prompts) or set(by_index) != set(range(len(prompts))):
            raise self._garbage(f"{len(choices)} choices for {len(prompts)} prompts")
        read = self._echoed if self._form == "echo" else self._prompt_logprobs
        return [self._checked(read(by_index[index], prompt)) for index, prompt in enumerate(prompts)]

    def _echoed(self, choice: Mapping[str, Any], prompt: str) -> list[Any]:
        held = choice.get("logprobs")
        logprobs = held.get("token_logprobs") if isinstance(held, dict) else None
        tokens = held.get("tokens") if isinstance(held, dict) else None
        if not isinstance(logprobs, list) or not isinstance(tokens, list):
            raise self._garbage("no log-probabilities of the prompt")
        if len(logprobs) != len(tokens):
            raise self._garbage(f"{len(logprobs)} log-probabilities for {len(tokens)} tokens")
        if choice.get("text") != prompt:
            raise self._garbage("the text that it echoes is not the prompt")
        return logprobs

    def _prompt_logprobs(self, choice: Mapping[str, Any], prompt: str) -> list[Any]:
        rows = choice.get("prompt_logprobs")
        if not isinstance(rows, list):
            raise self._garbage("no log-probabilities of the prompt")
        found: list[Any] = []
        for row in rows:
            if row is None:
                found.append(None)
            elif (
                isinstance(row, dict) and len(row) == 1 and isinstance(held := next(iter(row.values())), dict)
            ):
                found.append(held.get("logprob", math.nan))
            else:  # none was asked for beside the prompt's own token
                raise self._garbage("not one log-probability a token")
        return found

    def _checked(self, logprobs: list[Any]) -> list[float | None]:
        if not logprobs:
            raise self._garbage("no tokens")
        checked: list[float | None] = []
        for value in logprobs:
            if value is None:
                checked.append(None)
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value <= 1e-3:
                raise self._garbage("a log-probability is not a number below zero")  # NaN is not either
            checked.append(min(MAX_NATS, max(0.0, -float(value))))
        return checked

    def _posted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout_s
        content = bytearray()
        try:
            with self._client.stream("POST", self._endpoint, json=body) as response:
                for part in response.iter_bytes():
                    content += part
                    if len(content) > MAX_RESPONSE_BYTES:
                        raise LanguageModelServerError("too_large", f"{self._where}: the answer is too large")
                    if time.monotonic() > deadline:
                        raise self._timed_out()
                status = response.status_code
        except httpx.TimeoutException:
            raise self._timed_out() from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            name = type(error).__name__
            raise LanguageModelServerError(
                "unreachable", f"{self._where}: cannot be asked ({name})"
            ) from None
        if status != httpx.codes.OK:
            raise LanguageModelServerError("status", f"{self._where}: answered with status {status}")
        try:
            row = json.loads(content)
        except (ValueError, RecursionError):
            raise self._garbage("not JSON") from None
        if not isinstance(row, dict):
            raise self._garbage("not a JSON object")
        return row

    def _timed_out(self) -> LanguageModelServerError:
        return LanguageModelServerError("timeout", f"{self._where}: no answer within {self._timeout_s:g} s")

    def _garbage(self, why: str) -> LanguageModelServerError:
        return LanguageModelServerError("garbage", f"{self._where}: {why}")


def _bounded(nats: Surprisals, *, complete: bool, max_tokens: int) -> tuple[Surprisals, int]:
    """At most ``max_tokens`` surprisals, of both ends; a count above their number where text is missing."""
    count = len(nats) if complete else max(len(nats), max_tokens + 1)
    if len(nats) > max_tokens:
        nats = np.concatenate([nats[: max_tokens - max_tokens // 2], nats[len(nats) - max_tokens // 2 :]])
    return nats, count


def _shown(url: str) -> str:
    """The address without user, password and query; also checks it."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise LanguageModelError("the language model's server has no valid address") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise LanguageModelError("the language model's server needs an address such as http://host:8000/v1")
    return str(parsed.copy_with(username=None, password=None, query=None, fragment=None))
