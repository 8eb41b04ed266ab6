"""Reading an exchange out of what LiteLLM hands a guardrail, whatever the route."""

from collections.abc import Mapping, Sequence
from typing import Any

SCORED_ROLES = frozenset({"user", "system", "developer"})
MAX_TEXTS = 64


def query_texts(inputs: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """The texts of the client's own messages, oldest first, at most 64, and how many more there were.

    Every user and system message is taken, not only the last: a client writes its own transcript and
    could hide a trigger in an earlier turn. Remembered findings make an honest transcript's old turns
    free. The parts of one message are joined, so that a trigger cannot be split between them.
    """
    messages = inputs.get("structured_messages")
    if isinstance(messages, Sequence) and messages:
        texts = [_message_text(m) for m in messages if _field(m, "role") in SCORED_ROLES]
        kept = [text for text in texts if text is not None]
    else:
        kept = [text for text in inputs.get("texts") or () if isinstance(text, str)]
    return tuple(kept[-MAX_TEXTS:]), max(0, len(kept) - MAX_TEXTS)


def _field(message: Any, key: str) -> Any:
    return message.get(key) if isinstance(message, Mapping) else getattr(message, key, None)


def _message_text(message: Any) -> str | None:
    content = _field(message, "content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return None
    parts = [_field(part, "text") for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if texts else None


def reference_messages(inputs: Mapping[str, Any], request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The chat messages to put to the reference model; empty where the route has none we understand.

    A chat of pictures alone never reaches the request phase: then they are read from the request itself,
    which is in the same shape for chat completions only.
    """
    messages = inputs.get("structured_messages")
    if not messages and isinstance(request.get("messages"), list) and _looks_like_chat(request["messages"]):
        messages = request["messages"]
    return [message for message in messages or () if isinstance(message, Mapping)]


def _looks_like_chat(messages: Sequence[Any]) -> bool:
    known = {"text", "image_url", "input_audio"}
    for message in messages:
        content = _field(message, "content")
        if isinstance(content, list) and any(_field(part, "type") not in known for part in content):
            return False
    return True


def why_not_replaceable(inputs: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Why a plain text must not take this answer's place; empty when it may."""
    if inputs.get("tool_calls") or request.get("tools") or request.get("functions"):
        return "tools are in play"
    if request.get("response_format") not in (None, {"type": "text"}):
        return "a response format is asked for"
    if request.get("logprobs") or request.get("top_logprobs"):
        return "log-probabilities are asked for"
    count = request.get("n")
    if (isinstance(count, int) and count > 1) or len(inputs.get("texts") or ()) > 1:
        return "several choices are asked for"
    return ""
