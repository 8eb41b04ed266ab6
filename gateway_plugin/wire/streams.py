"""Streamed answers (server-sent events): read as they pass, and written anew with another text."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gateway_plugin.wire.answers import (
    UNREAD,
    ReadAnswer,
    Replacement,
    output_message,
    output_text,
    read_answer,
    with_text,
)

MAX_ANSWER_BYTES = 8 * 2**20


class StreamReader:
    """Collects what a stream says, holding at most ``limit`` bytes of text and of any one event.

    head: the first event's envelope, without what was said: its id, model and creation time.
    """

    def __init__(self, route: str, *, limit: int = MAX_ANSWER_BYTES) -> None:
        self.head: Mapping[str, Any] = {}
        self._route, self._limit = route, limit
        self._rest, self._size, self._fault = bytearray(), 0, False
        self._texts: dict[int, list[str]] = {}
        self._calls = False
        self._whole: ReadAnswer | None = None

    def feed(self, data: bytes) -> None:
        """The next bytes, cut anywhere."""
        if self._fault:
            return
        head, end, tail = data.rpartition(b"\n")
        self._rest += head + end  # never searched again: an event of many pieces costs its length once
        if end:
            whole, self._rest = self._rest, bytearray()
            for line in whole.split(b"\n"):
                if line.startswith(b"data:"):
                    self._event(bytes(line[5:]).strip())
        self._rest += tail
        if len(self._rest) > self._limit:
            self._give_up()

    def answer(self) -> ReadAnswer:
        """What was said so far."""
        self.feed(b"\n")  # a last line without its end
        if self._fault or not self.head:
            return ReadAnswer(fault=UNREAD)
        texts = ("".join(self._texts[index]) for index in sorted(self._texts))
        said = ReadAnswer(texts=tuple(filter(None, texts)), has_tool_calls=self._calls)
        if self._whole is not None and not said.texts and not said.has_tool_calls:
            return self._whole
        return said

    def _give_up(self) -> None:
        self._rest, self._texts, self._fault = bytearray(), {}, True

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(event, Mapping):
            {"responses": self._response, "messages": self._message}.get(self._route, self._chunk)(event)

    def _said(self, index: Any, text: Any) -> None:
        if not isinstance(text, str):
            return
        self._size += len(text)
        if self._size > self._limit:
            self._give_up()
            return
        self._texts.setdefault(index if isinstance(index, int) else 0, []).append(text)

    def _chunk(self, event: Mapping[str, Any]) -> None:
        if not self.head:
            self.head = {k: v for k, v in event.items() if k not in ("choices", "usage")}
        for choice in event.get("choices") or () if isinstance(event.get("choices"), list) else ():
            if not isinstance(choice, Mapping):
                continue
            delta = choice.get("delta")
            if isinstance(delta, Mapping):
                self._said(choice.get("index"), delta.get("content"))
                self._said(choice.get("index"), delta.get("refusal"))
                self._calls |= bool(delta.get("tool_calls") or delta.get("function_call"))
            self._said(choice.get("index"), choice.get("text"))

    def _response(self, event: Mapping[str, Any]) -> None:
        kind, response, item = str(event.get("type")), event.get("response"), event.get("item")
        if isinstance(response, Mapping):
            if not self.head:
                self.head = {k: v for k, v in response.items() if k not in ("output", "usage")}
            self._whole = read_answer("responses", response)
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            self._said(0, event.get("delta"))
        elif isinstance(item, Mapping):
            self._calls |= str(item.get("type")).endswith("_call")

    def _message(self, event: Mapping[str, Any]) -> None:
        message, block, delta = (event.get(name) for name in ("message", "content_block", "delta"))
        if not self.head and isinstance(message, Mapping):
            self.head = {k: v for k, v in message.items() if k not in ("content", "usage")}
        if isinstance(block, Mapping):
            self._calls |= str(block.get("type")).endswith("tool_use")
            self._said(0, block.get("text"))
        if isinstance(delta, Mapping):
            self._said(0, delta.get("text"))


def stream_of(route: str, head: Mapping[str, Any], new: Replacement, *, with_usage: bool = False) -> bytes:
    """A whole stream of the route's events that says ``new`` under the id and the model of ``head``.

    with_usage: whether a chat asked for a last chunk with the usage.
    """
    if route == "responses":
        return b"".join(_named(_response_events(head, new)))
    if route == "messages":
        return b"".join(_named(_message_events(head, new)))
    return b"".join(_lines(_chat_chunks(head, new, with_usage=with_usage))) + b"data: [DONE]\n\n"


def _chat_chunks(
    head: Mapping[str, Any], new: Replacement, *, with_usage: bool
) -> Iterator[Mapping[str, Any]]:
    head = {**head, "object": "chat.completion.chunk"}
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, {"content": new.text}, {}]
    for delta in deltas:
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
    if with_usage:
        yield {**head, "choices": [], "usage": new.usage("chat")}


def _response_events(head: Mapping[str, Any], new: Replacement) -> Iterator[dict[str, Any]]:
    started = {**head, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_gateway", "output_index": 0, "content_index": 0}
    text = {"text": new.text, "logprobs": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": output_message(None, status="in_progress"),
        },
        {"type": "response.content_part.added", **place, "part": output_text("")},
        {"type": "response.output_text.delta", **place, "delta": new.text, "logprobs": []},
        {"type": "response.output_text.done", **place, **text},
        {"type": "response.content_part.done", **place, "part": output_text(new.text)},
        {"type": "response.output_item.done", "output_index": 0, "item": output_message(new.text)},
        {"type": "response.completed", "response": with_text("responses", head, new)},
    ]
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def _message_events(head: Mapping[str, Any], new: Replacement) -> Iterator[dict[str, Any]]:
    empty: dict[str, Any] = {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": new.usage("messages"),
    }
    yield {"type": "message_start", "message": {**head, **empty}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "text_delta", "text": new.text}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": new.usage("messages")}
    yield {"type": "message_stop"}


def _lines(events: Iterator[Mapping[str, Any]]) -> Iterator[bytes]:
    for event in events:
        yield b"data: " + json.dumps(event).encode() + b"\n\n"


def _named(events: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for event in events:
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
