"""Our own connection to a server that is trusted with nothing beyond the question."""

import ssl
import time
from collections.abc import Iterator, Mapping
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from pydantic import SecretStr

from probes.config.fields import ConfigError

if TYPE_CHECKING:
    from openai import OpenAI

MAX_REPLY_BYTES = 4 * 2**20
"""Of one reply, after decompression; what is asked for fits into a hundredth of it."""


class RedirectedError(httpx.TransportError):
    """The server sent us elsewhere: perhaps to an address inside our own network."""


class ReplyTooLargeError(httpx.TransportError):
    """The reply is longer than any answer to the question."""


class _Bounded(httpx.SyncByteStream):
    """Ends a reply that goes on for too long, in bytes (before it is held in memory) or in time: a timeout of
    httpx is of each read alone.
    """

    def __init__(self, stream: httpx.SyncByteStream, *, limit: int, seconds: float) -> None:
        self._stream, self._left, self._until = stream, limit, time.monotonic() + seconds

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._left -= len(piece)
            if self._left < 0:
                raise ReplyTooLargeError(f"more than {MAX_REPLY_BYTES:,} bytes")
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout("the reply takes too long")
            yield piece

    def close(self) -> None:
        self._stream.close()


def trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    """The authorities of a PEM file alone, or the usual ones. Raises ConfigError where it cannot be read."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ConfigError(f"{ca_file}: no PEM certificates") from None
    except OSError as error:
        raise ConfigError(f"{ca_file}: {error.strerror or error}") from None


def open_http(
    *,
    timeout_s: float,
    proxy: str | None = None,
    verify: ssl.SSLContext | bool = True,
    headers: Mapping[str, str] | None = None,
) -> httpx.Client:
    """An HTTP client that follows no redirect, takes no cookie, asks for no compression and reads no endless
    reply.

    ``proxy`` takes the place of those of the environment, ``verify`` is what :func:`trust` makes.
    """
    client = httpx.Client(
        proxy=proxy,
        verify=verify,
        timeout=timeout_s,
        follow_redirects=False,
        # a cookie would tell the server which questions come from one client
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # questions are minutes apart, and nothing has to be closed afterwards
        limits=httpx.Limits(max_keepalive_connections=0),
        headers=headers,
        event_hooks={"response": [partial(_guard, seconds=timeout_s)]},
    )
    client.headers["Accept-Encoding"] = "identity"  # or a few bytes could become gigabytes
    return client


def open_client(
    *,
    api_base: str,
    api_key: SecretStr,
    timeout_s: float,
    proxy: str | None = None,
    verify: ssl.SSLContext | bool = True,
) -> "OpenAI":
    """An OpenAI client over :func:`open_http`."""
    from openai import OpenAI

    http_client = open_http(timeout_s=timeout_s, proxy=proxy, verify=verify)
    client = OpenAI(
        base_url=api_base, api_key=api_key.get_secret_value(), http_client=http_client, max_retries=0
    )
    # what the SDK takes from the environment is for OpenAI's own server, and none of a suspect's business
    client.organization = client.project = None
    client._custom_headers = {}
    return client


def _guard(response: httpx.Response, *, seconds: float) -> None:
    if response.is_redirect:
        raise RedirectedError(f"HTTP {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ReplyTooLargeError("compressed, though not asked to")
    if isinstance(response.stream, httpx.SyncByteStream):
        response.stream = _Bounded(response.stream, limit=MAX_REPLY_BYTES, seconds=seconds)
