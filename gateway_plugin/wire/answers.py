"""Answers of one piece: what the model said, and the same answer with another text in it."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway_plugin.reference import ReferenceAnswer

UNREAD = "unread_answer"


@dataclass(frozen=True, kw_only=True)
class ReadAnswer:
    """texts: one a choice. fault: why there is none to read, as the failure counter names it."""

    texts: tuple[str, ...] = field(default=(), repr=False)
    has_tool_calls: bool = False
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """The text to serve and the usage to report. billing: more entries of the usage."""

    text: str = field(repr=False)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    billing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, reference: ReferenceAnswer, billing: Mapping[str, str]) -> "Replacement":
        """``reference`` has a text."""
        return cls(
            text=reference.text or "",
            prompt_tokens=reference.prompt_tokens,
            completion_tokens=reference.completion_tokens,
            billing=billing,
        )

    def usage(self, route: str) -> dict[str, Any]:
        asked, said = self.prompt_tokens, self.completion_tokens
        if route == "chat":
            counts = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
        else:
            counts = {"input_tokens": asked, "output_tokens": said}
        if route == "responses":
            details = {"input_tokens_details": {"cached_tokens": 0}}
            more = {"output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": asked + said}
            return {**counts, **details, **more, **self.billing}
        return {**counts, **self.billing}


def read_answer(route: str, payload: Any) -> ReadAnswer:
    """``payload``: the parsed body of a 200."""
    rows = payload.get(_LIST[route]) if isinstance(payload, Mapping) and route in _LIST else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        return ReadAnswer(fault=UNREAD)
    if route == "responses":
        if payload.get("status") in ("queued", "in_progress"):  # asked to be fetched later
            return ReadAnswer(fault=UNREAD)
        parts = [p for row in rows for p in _list(row.get("content")) if row.get("type") == "message"]
        return _joined(parts, calls=any(str(row.get("type")).endswith("_call") for row in rows))
    if route == "messages":
        return _joined(rows, calls=any(str(row.get("type")).endswith("tool_use") for row in rows))
    if route == "completions":
        return ReadAnswer(texts=tuple(row["text"] for row in rows if isinstance(row.get("text"), str)))
    messages = [row["message"] for row in rows if isinstance(row.get("message"), Mapping)]
    return ReadAnswer(
        texts=tuple(filter(None, map(_chat_text, messages))),
        has_tool_calls=any(m.get("tool_calls") or m.get("function_call") for m in messages),
    )


_LIST = {"chat": "choices", "completions": "choices", "responses": "output", "messages": "content"}


def with_text(route: str, payload: Mapping[str, Any], new: Replacement) -> dict[str, Any]:
    """The payload's shape, id and model, and ``new`` for what was said."""
    usage = new.usage(route)
    if route == "messages":
        content = [{"type": "text", "text": new.text}]
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        return {**payload, "content": content, **stop, "usage": usage}
    if route == "responses":
        done = {"status": "completed", "incomplete_details": None, "error": None}
        return {**payload, **done, "output": [output_message(new.text)], "usage": usage}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": new.text},
        "finish_reason": "stop",
        "logprobs": None,
    }
    return {**payload, "choices": [choice], "usage": usage}


def envelope(route: str, model: str) -> dict[str, Any]:
    """An answer around nothing, where the application's own could not be read."""
    made, now = f"gateway-{uuid.uuid4().hex}", int(time.time())
    if route == "messages":
        return {"id": made, "type": "message", "role": "assistant", "model": model}
    if route == "responses":
        more = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        return {"id": made, "object": "response", "created_at": now, "model": model, **more}
    return {"id": made, "object": "chat.completion", "created": now, "model": model}


def output_message(text: str | None, *, status: str = "completed") -> dict[str, Any]:
    """The one output item of a replaced response; ``None`` for no content yet."""
    content = [] if text is None else [output_text(text)]
    row = {"type": "message", "id": "msg_gateway", "role": "assistant"}
    return {**row, "status": status, "content": content}


def output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _joined(parts: list[Any], *, calls: bool) -> ReadAnswer:
    texts = [p.get("text") or p.get("refusal") for p in parts if isinstance(p, Mapping)]
    text = "".join(t for t in texts if isinstance(t, str))
    return ReadAnswer(texts=(text,) if text else (), has_tool_calls=calls)


def _chat_text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or message.get("refusal")
    if isinstance(content, str):
        return content
    parts = [p.get("text") for p in _list(content) if isinstance(p, Mapping)]
    return "".join(p for p in parts if isinstance(p, str))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
