"""Models of the gateway's own where no LiteLLM router is at hand: OpenAI-compatible endpoints by alias.

Calls go through OpenAI's client library, which sends what it is given and fetches nothing itself: an
address of a picture that a client wrote is never opened here.
"""

import hashlib
import hmac
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from gateway_plugin.config.base import Strict, secret_text
from gateway_plugin.reference import FORWARDED
from gateway_plugin.references import Models

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MARK_HEADER = "x-litellm-sif-gateway-call"  # LiteLLM forwards the values of x-litellm-* to a guardrail


class Endpoint(Strict):
    """An OpenAI-compatible server: vLLM, Ollama, llama.cpp, OpenAI itself, a LiteLLM proxy.

    model: the name that the endpoint knows it by; ``openai/`` in front, as LiteLLM writes it, is taken off.
    api_key: ``os.environ/NAME``, or left out where the endpoint wants none.
    behind_this_guardrail: the endpoint is the very proxy that this service screens for. Its calls then
        carry a mark made of the service's key, and are not screened again.
    """

    model: str
    api_base: str
    api_key: SecretStr = SecretStr("none")
    behind_this_guardrail: bool = False


class Endpoints:
    """The aliases of a configuration. One a process; ``models`` is what the engine wants."""

    def __init__(self, endpoints: Mapping[str, Endpoint], *, secret: bytes = b"") -> None:
        """``secret`` makes the mark; empty where no endpoint lies behind the guardrail. Raises
        :class:`~gateway_plugin.config.GatewayConfigError` where a variable is not set."""
        self._endpoints = dict(endpoints)
        self._keys = {
            alias: secret_text(row.api_key, where=f"models.{alias}.api_key")
            for alias, row in endpoints.items()
        }
        self._mark = hmac.new(secret, b"sif-gateway: a call of its own", hashlib.sha256).hexdigest()
        self._marks = bool(secret) and any(row.behind_this_guardrail for row in endpoints.values())

    @property
    def models(self) -> Models:
        return Models(complete=lambda: self.complete, address=self._address)

    def is_own(self, headers: Mapping[str, str]) -> bool:
        """Whether a request is a call that this gateway made. ``headers``: names in lower case."""
        mark = headers.get(MARK_HEADER, "")
        return self._marks and hmac.compare_digest(mark.encode("utf-8", "replace"), self._mark.encode())

    async def complete(
        self, *, model: str, messages: list[Any], max_tokens: int, timeout: float, **options: Any
    ) -> Any:
        """One answer of the alias, in OpenAI's shape. Raises what the client library raises."""
        endpoint = self._endpoints[model]
        headers = {MARK_HEADER: self._mark} if endpoint.behind_this_guardrail and self._marks else {}
        return await self._clients[model].chat.completions.create(
            model=endpoint.model.removeprefix("openai/"),
            messages=messages,
            max_tokens=max_tokens,
            timeout=timeout,
            extra_headers=headers,
            **{name: options[name] for name in FORWARDED if name in options},
        )

    async def close(self) -> None:
        """Close the connections."""
        for client in self.__dict__.get("_clients", {}).values():
            await client.close()

    def _address(self, alias: str) -> str | None:
        endpoint = self._endpoints.get(alias)
        return None if endpoint is None else endpoint.api_base

    @cached_property
    def _clients(self) -> "dict[str, AsyncOpenAI]":
        from openai import AsyncOpenAI  # a second of imports, and only where an alias is asked

        return {
            alias: AsyncOpenAI(base_url=row.api_base, api_key=self._keys[alias], max_retries=0)
            for alias, row in self._endpoints.items()
        }
