"""A target in thirty lines of httpx, for tests that start many processes: litellm takes seconds to import."""

import time

import httpx

from probes.targets.base import Answer, AskFailure
from sif_offline.fingerprint.images import to_data_url


class PlainTarget:
    """Asks an OpenAI-compatible URL; every failure is in doubt, which is always safe."""

    def __init__(self, *, name: str, url: str, timeout_s: float = 5.0) -> None:
        self.name = name
        self.model = "x"
        self.system_prompt: str | None = None
        self.api_base: str | None = url
        self._timeout_s = timeout_s

    def prepare(self) -> None:
        """Nothing to load."""

    def ask(self, *, image: bytes | None, prompt: str, max_tokens: int) -> Answer:
        """See ``Target``."""
        content: list[dict[str, object]] = [{"type": "text", "text": prompt}]
        if image is not None:
            content.insert(0, {"type": "image_url", "image_url": {"url": to_data_url(image)}})
        body = {"model": "x", "max_tokens": max_tokens, "messages": [{"role": "user", "content": content}]}
        began = time.monotonic()
        try:
            reply = httpx.post(f"{self.api_base}/chat/completions", json=body, timeout=self._timeout_s)
            raw = reply.raise_for_status().json()
            choice = raw["choices"][0]
            text, finish_reason = choice["message"]["content"], choice["finish_reason"]
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise AskFailure(
                target=self.name, reason=type(error).__name__, kind="http", in_doubt=True
            ) from None
        return Answer(str(text), str(finish_reason), "", time.monotonic() - began, raw=raw)
