"""An application's answer on its way out: held until it is judged, or passed on and judged afterwards."""

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway_plugin.asgi_client import Client
from gateway_plugin.exchange import Exchange
from gateway_plugin.screening.policy import Action
from gateway_plugin.verdict import Verdict
from gateway_plugin.wire.answers import UNREAD, ReadAnswer, Replacement, envelope, read_answer, with_text
from gateway_plugin.wire.bodies import Message, Send, aside
from gateway_plugin.wire.errors import BLOCKED, raw, send_error
from gateway_plugin.wire.streams import StreamReader, stream_of

Judge = Callable[[ReadAnswer], Awaitable[Verdict | None]]
_OF_THE_OLD_BODY = {
    *(b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"),
    *(b"etag", b"content-md5", b"digest", b"content-digest", b"repr-digest"),
}


def with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """``send``, with more headers on the response's start."""

    async def added(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *raw(headers)]}
        await send(message)

    return added


class _Answer(ABC):
    """What both kinds share: what the answer is by its start, and reading it within bounds."""

    def __init__(
        self,
        exchange: Exchange,
        send: Send,
        judge: Judge,
        client: Client,
        *,
        headers: Mapping[str, str],
        limit: int,
    ) -> None:
        self._exchange, self._send, self._judge, self._client = exchange, send, judge, client
        self._headers, self._limit = headers, limit
        self._start: Message = {}
        self._stream: StreamReader | None = None
        self._data = bytearray()
        self._readable = self._too_large = False

    @abstractmethod
    async def send(self, message: Message) -> None:
        """What the application calls."""

    @abstractmethod
    async def finish(self) -> None:
        """Once the application has returned."""

    def _begin(self, message: Message) -> None:
        self._start = message
        headers = {name.lower(): value for name, value in message.get("headers", ())}
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        self._readable = b"content-encoding" not in headers
        if kind == b"text/event-stream":
            self._stream = StreamReader(self._exchange.route, limit=self._limit)

    @property
    def _good(self) -> bool:
        return bool(self._start) and 200 <= self._start["status"] < 300

    def _read(self, message: Message) -> None:
        if self._too_large or not self._good:
            return
        data = message.get("body", b"")
        if self._stream is not None:
            self._stream.feed(data)
        elif len(self._data) + len(data) > self._limit:
            self._too_large = True
            self._data.clear()
        else:
            self._data += data

    async def _said(self) -> ReadAnswer:
        if not self._readable or self._too_large:
            return ReadAnswer(fault=UNREAD)
        if self._stream is not None:
            return self._stream.answer()
        return await aside(lambda: read_answer(self._exchange.route, self._payload()), size=len(self._data))

    def _payload(self) -> Any:
        try:
            return json.loads(self._data)
        except (ValueError, RecursionError):
            return None


class PassedAnswer(_Answer):
    """Goes out as it comes; nothing can be taken away, so it is judged once it is gone."""

    _complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
            await with_headers(self._send, self._headers)(message)
            return
        self._read(message)
        if not message.get("more_body", False):
            self._complete = True
            self._client.answered()
        await self._send(message)

    async def finish(self) -> None:
        if self._complete and self._good:
            await self._judge(await self._said())


class HeldAnswer(_Answer):
    """Nothing goes out before the verdict. What is too large to hold is judged as unread."""

    def __init__(
        self,
        exchange: Exchange,
        send: Send,
        judge: Judge,
        client: Client,
        *,
        headers: Mapping[str, str],
        limit: int,
    ) -> None:
        super().__init__(exchange, send, judge, client, headers=headers, limit=limit)
        self._held: list[Message] = []
        self._size = 0
        self._decided = self._dropped = False

    async def send(self, message: Message) -> None:
        if self._decided:
            if not self._dropped:
                await self._pass(message)
            return
        self._held.append(message)
        if message["type"] == "http.response.start":
            self._begin(message)
            return
        self._read(message)
        self._size += len(message.get("body", b""))
        self._too_large |= self._size > self._limit
        if self._too_large or not self._good or not message.get("more_body", False):
            self._decided = True
            await self._decide()

    async def finish(self) -> None:
        """Nothing is left to do. An answer without an end has not been let out."""

    async def _decide(self) -> None:
        route, headers = self._exchange.route, self._headers
        if self._good:
            verdict = await self._judge(await self._said())
            self._dropped = verdict is None or verdict.action in (Action.BLOCK, Action.REPLACE)
            if verdict is None:  # the client is gone
                return
            headers = {**headers, **verdict.headers}
            if self._dropped:
                self._client.answered()
            if verdict.action is Action.BLOCK:
                await send_error(self._send, route, 400, verdict.message, code=BLOCKED, headers=headers)
            elif verdict.action is Action.REPLACE:
                await self._replace(verdict, headers)
        if not self._dropped:
            send = with_headers(self._pass, headers)
            for message in self._held:
                await send(message)
        self._held.clear()

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._client.answered()
        await self._send(message)

    async def _replace(self, verdict: Verdict, headers: Mapping[str, str]) -> None:
        """The reference's answer in this one's wire format, under its id and model."""
        if verdict.reference is None:
            raise RuntimeError("a replacement without a reference answer")
        exchange, new = self._exchange, Replacement.of(verdict.reference, verdict.billing)
        empty = envelope(exchange.route, exchange.model)
        if self._stream is not None:
            options = exchange.request.get("stream_options")
            usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
            head = self._stream.head or empty
            kind, body = "text/event-stream", stream_of(exchange.route, head, new, with_usage=usage)
        else:
            payload = await aside(self._payload, size=len(self._data))
            whole = with_text(exchange.route, payload if isinstance(payload, Mapping) else empty, new)
            kind, body = "application/json", json.dumps(whole).encode()
        kept = [row for row in self._start.get("headers", ()) if row[0].lower() not in _OF_THE_OLD_BODY]
        rows = {"content-type": kind, "content-length": str(len(body)), **headers}
        await self._send({**self._start, "headers": [*kept, *raw(rows)]})
        await self._send({"type": "http.response.body", "body": body})
