"""An OpenAI-compatible endpoint, as `sif verify` and `sif evidence replay` ask it."""

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sif_offline.fingerprint.errors import SifError

if TYPE_CHECKING:
    from probes.targets import LiteLLMTarget
    from sif_offline.fingerprint.evidence.recording import Ask


MAX_REPLY_BYTES = 2**20
"""Replies longer than this, as they are recorded, are set down without their words: a model that is asked for
a few hundred tokens sends kilobytes, and evidence has to stay readable."""


class EndpointError(SifError):
    """An endpoint or its credential that cannot be used as given."""


def make_endpoint(url: str, model: str, *, api_key_env: str | None, timeout_s: float) -> "LiteLLMTarget":
    """The target behind a base URL; ``/v1`` is added where the URL has no path.

    Raises:
        EndpointError: no http(s) URL, one with a password or query in it (the URL stands in evidence), or a
            variable that is not set.
    """
    from pydantic import SecretStr

    from probes.targets import LiteLLMTarget

    try:
        parts = urlsplit(url)
    except ValueError:
        raise EndpointError("--endpoint: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise EndpointError(f"{url}: want an http or https URL")
    if "@" in parts.netloc or parts.query or parts.fragment:
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise EndpointError(
            f"{where}: the URL is kept with the answers; give no user, password or query in it "
            "(--api-key-env names a credential)"
        )
    key = None
    if api_key_env is not None:
        if not os.environ.get(api_key_env):
            raise EndpointError(f"environment variable {api_key_env}: not set, no API key for {url}")
        key = SecretStr(os.environ[api_key_env])
    base = url.rstrip("/")
    return LiteLLMTarget(
        name=model,
        model=f"openai/{model}",
        api_base=base if parts.path.strip("/") else f"{base}/v1",
        api_key=key,
        timeout_s=timeout_s,
    )


def make_ask(target: "LiteLLMTarget") -> "Ask":
    """Ask ``target``; a failure is an outcome."""
    from probes.targets import AskFailure, classify
    from sif_offline.fingerprint.evidence.recording import Asked
    from sif_offline.fingerprint.evidence.transcript import body_text

    def ask(image: bytes, prompt: str, max_tokens: int) -> Asked:
        try:
            answer = target.ask(image=image, prompt=prompt, max_tokens=max_tokens)
        except AskFailure as failure:
            state = "in_doubt" if failure.in_doubt else "failed"
            return Asked(f"{state}:{failure.kind}", {"failure": failure.kind, "reason": str(failure)})
        except ValueError as error:  # lone surrogates or nesting beyond what can be written down again
            return unreadable(f"{target.name}: the reply cannot be kept ({type(error).__name__})")
        response = answer.as_response()
        try:
            size = len(body_text(response))
        except (ValueError, RecursionError) as error:
            return unreadable(f"{target.name}: the reply cannot be kept ({type(error).__name__})")
        if size > MAX_REPLY_BYTES:
            return unreadable(f"{target.name}: the reply has {size:,} bytes")
        return Asked(classify(answer, max_tokens=max_tokens), response)

    def unreadable(reason: str) -> Asked:
        return Asked("in_doubt:not_chat", {"failure": "not_chat", "reason": reason})

    return ask
