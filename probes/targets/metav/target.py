"""A target that answers the queries of a MetaV pack with numbers."""

import json
import time
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from probes.config.fields import ConfigError
from probes.targets.base import Answer, NoAnswerError
from probes.targets.connection import open_http, trust
from probes.targets.litellm_target import MAX_REPLY_CHARACTERS
from probes.targets.metav.exchange import exchange, parse
from probes.targets.redaction import Redaction
from sif_offline.fingerprint.evidence.canonical import canonical_json
from sif_offline.fingerprint.metav.pack import Query
from sif_offline.fingerprint.metav.protocols.codec import Codec, NotOutputError, QueryError

LONGEST_REASON = 200  # characters

OutputKind = Literal["answer", "wrong_size"]


class MetaVTarget:
    """Ask over HTTP, once: nothing is sent again, and no redirect is followed.

    Args:
        name: the configured name, which opens every error message.
        url: what the codec's paths go behind; holds no credential.
        model: its name at the endpoint, for the record of what was asked.
        codec: the protocol.
        protocol_sha256: hex digest of the protocol's settings, for the record of what was asked.
        api_key: sent as ``Authorization: Bearer``, unless ``headers`` has that header.
        timeout_s: connect and read timeout, seconds.
        headers: extra HTTP headers.
        proxy, ca_file: of this target's connection.

    Raises:
        ConfigError: ``ca_file`` cannot be read, or a header is not ASCII.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        model: str,
        codec: Codec,
        protocol_sha256: str,
        api_key: SecretStr | None = None,
        timeout_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.api_base = url
        self.timeout_s = timeout_s
        self.protocol_sha256 = protocol_sha256
        self._codec = codec
        headers = dict(headers or {})
        self._redacted = Redaction(api_key=api_key, headers=headers)
        bearer = {} if api_key is None else {"Authorization": f"Bearer {api_key.get_secret_value()}"}
        try:
            sent = httpx.Headers({"Content-Type": "application/json", **bearer})
            sent.update(headers)
        except UnicodeEncodeError:
            raise ConfigError(f"target {name}: a header or the key is not ASCII") from None
        verify = trust(ca_file)
        self._connect = partial(open_http, headers=sent, proxy=proxy, verify=verify, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"MetaVTarget(name={self.name!r}, model={self.model!r}, api_base={self.api_base!r})"

    def prepare(self) -> None:
        """Read the authorities: no part of an answer's latency."""
        _ = self._client

    def request(self, query: Query) -> tuple[str, bytes]:
        """The URL and the JSON that ask a query. Raises QueryError where the protocol cannot ask it."""
        asked = self._codec.encode(query)
        parts = urlsplit(self.api_base)
        path = parts.path.rstrip("/") + asked.path if asked.path else parts.path
        return parts._replace(path=path).geturl(), json.dumps(asked.body, allow_nan=False).encode()

    def ask(self, query: Query) -> Answer:
        """Ask one query.

        Returns:
            An answer whose ``text`` is the output's numbers as canonical JSON, row-major, which
            :func:`output_of` reads; ``raw`` holds the parsed reply under ``reply``.

        Raises:
            AskFailure: no such answer.
        """
        try:
            return self._ask(query)
        except QueryError as error:
            failure = NoAnswerError("misconfigured", f"sent nothing: {error}", in_doubt=False)
        except NotOutputError as error:
            failure = NoAnswerError("not_output", f"answered JSON with no output: {error}", in_doubt=True)
        except NoAnswerError as error:
            failure = error
        reason = failure.reason
        if isinstance(query, str):  # a server may quote what it was asked, and the query is a secret too
            reason = reason.replace(query, "***")
        raise failure.at(self.name, reason=f"{self._clean(reason)} ({self.api_base})")

    def _ask(self, query: Query) -> Answer:
        url, content = self.request(query)
        began = time.monotonic()
        read = exchange(self._client, url, content=content, timeout_s=self.timeout_s)
        latency_s = time.monotonic() - began
        # it is kept for ever, and shown as evidence
        reply = json.loads(self._redacted.in_json(json.dumps(parse(read))))
        said = self._codec.decode(reply)
        text = canonical_json(said.numbers).decode()
        if len(text) > MAX_REPLY_CHARACTERS:  # 1e20 and base64 are shorter than what they say
            raise NoAnswerError("too_large", f"answered {len(said.numbers):,} numbers", in_doubt=True)
        return Answer(
            text=text,
            finish_reason="stop",
            served_model=self._clean(said.served_model),
            latency_s=latency_s,
            prompt_tokens=said.prompt_tokens,
            raw={"reply": reply},
        )

    @cached_property
    def _client(self) -> httpx.Client:
        return self._connect()

    def _clean(self, text: str) -> str:
        """Without our secrets, short, and without halves of characters."""
        return self._redacted(text)[:LONGEST_REASON].encode(errors="replace").decode()


def output_of(answer: Answer) -> list[float]:
    """The numbers of an answer of :class:`MetaVTarget`, row-major."""
    return [float(number) for number in json.loads(answer.text)]


def classify_output(answer: Answer, *, size: int) -> OutputKind:
    """What an answer is to a pack whose outputs have ``size`` numbers.

    Another size is a finding: another model, or another API. It is stored as such, is no failure of the
    endpoint, and is neither scored nor asked again before its cool-down.
    """
    return "answer" if len(output_of(answer)) == size else "wrong_size"
