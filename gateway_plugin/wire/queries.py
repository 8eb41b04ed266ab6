"""From a request's body to chat messages in OpenAI's shape, for every route. Wrong types are left out,
never an error: the application behind says what it thinks of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sif_offline.fingerprint.allow_header import json_pieces

ROUTES: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/embeddings": "embeddings",
    "/v1/completions": "completions",
}


@dataclass(frozen=True, kw_only=True)
class ReadQuery:
    """messages: empty where a reference model could not be asked the same. texts: what is scored then.

    unread: texts that only the application can read (token ids, stored prompts).
    """

    messages: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)
    unread: int = 0


def read_query(route: str, body: Mapping[str, Any]) -> ReadQuery:
    """``route``: a value of :data:`ROUTES`."""
    if route == "responses":
        return _responses(body)
    if route == "messages":
        return ReadQuery(messages=tuple(_anthropic(body)))
    if route == "chat" or mappings(body.get("messages")):
        return ReadQuery(messages=tuple(mappings(body.get("messages"))))
    return _plain(body)


def _plain(body: Mapping[str, Any]) -> ReadQuery:
    """Embeddings and completions: a text, token ids, or a list of either."""
    given = [body.get(name) for name in ("input", "prompt", "suffix")]
    texts: list[str] = []
    unread = 0
    for value in given:
        rows = value if isinstance(value, list) else [value]
        texts += [row for row in rows if isinstance(row, str)]
        whole = rows and isinstance(rows[0], int)
        unread += 1 if whole else sum(isinstance(row, list | dict) for row in rows)
    return ReadQuery(texts=tuple(texts), unread=unread)


def _responses(body: Mapping[str, Any]) -> ReadQuery:
    messages: list[Mapping[str, Any]] = []
    if isinstance(body.get("instructions"), str):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    for item in mappings(given):
        messages.extend(_response_item(item))
    stored = [name for name in ("previous_response_id", "conversation", "prompt") if body.get(name)]
    references = sum(item.get("type") == "item_reference" for item in mappings(given))
    if not stored and not references:
        return ReadQuery(messages=tuple(messages))
    # What came before is with the application alone, so no other model can be asked the same.
    texts = [_text(row.get("content")) for row in messages if row["role"] in ("user", "system", "developer")]
    return ReadQuery(texts=tuple(filter(None, texts)), unread=int("prompt" in stored))


def _response_item(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    kind = item.get("type", "message")
    if kind == "message" and isinstance(item.get("role"), str):
        content = item.get("content")
        yield {
            "role": item["role"],
            "content": content
            if isinstance(content, str)
            else [_response_part(p) for p in mappings(content)],
        }
    elif kind == "function_call":
        yield _tool_call(item.get("call_id"), item.get("name"), item.get("arguments"))
    elif kind == "function_call_output":
        yield {"role": "tool", "tool_call_id": item.get("call_id"), "content": _text(item.get("output"))}


def _response_part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part.get("type") in ("input_text", "output_text", "text"):
        return {"type": "text", "text": part.get("text")}
    if part.get("type") == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    return part


def _anthropic(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    system = _text(body.get("system"))
    if system:
        yield {"role": "system", "content": system}
    for message in mappings(body.get("messages")):
        content = message.get("content")
        if isinstance(content, str):
            yield {"role": message.get("role"), "content": content}
            continue
        parts: list[Mapping[str, Any]] = []
        for block in mappings(content):
            kind = block.get("type")
            if kind == "text":
                parts.append({"type": "text", "text": block.get("text")})
            elif kind == "image":
                parts.append({"type": "image_url", "image_url": {"url": _anthropic_image(block)}})
            elif kind == "tool_result":
                text = _text(block.get("content"))
                yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text}
            elif kind == "tool_use":
                arguments = "".join(json_pieces(block.get("input"), ensure_ascii=True))
                yield _tool_call(block.get("id"), block.get("name"), arguments)
        if parts:
            yield {"role": message.get("role"), "content": parts}


def _anthropic_image(block: Mapping[str, Any]) -> Any:
    source = block.get("source")
    if not isinstance(source, Mapping):
        return None
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    return source.get("url")


def _tool_call(call: Any, name: Any, arguments: Any) -> Mapping[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": call, "type": "function", "function": function}]}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(p["text"] for p in mappings(content) if isinstance(p.get("text"), str))


def mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    """The objects of a list; nothing where it is none."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []
