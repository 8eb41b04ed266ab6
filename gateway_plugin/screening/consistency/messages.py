"""The pictures in chat messages of OpenAI's shape: their addresses, and the messages with others instead."""

from collections.abc import Mapping, Sequence
from typing import Any

_UNKNOWN = frozenset({"input_image", "image", "image_file"})  # parts that we do not know how to change


class UnscorableError(Exception):
    """The pictures of a conversation cannot be changed; the message is the finding's reason."""


def _parts(message: Mapping[str, Any]) -> Sequence[Any]:
    content = message.get("content")
    return content if isinstance(content, list | tuple) else ()


def _url(part: Any) -> str | None:
    """The URL of an ``image_url`` part; ``None`` for a part without a picture."""
    if not isinstance(part, Mapping):
        return None
    kind = part.get("type")
    if kind in _UNKNOWN:
        raise UnscorableError("a picture has a shape that we do not know")
    if kind != "image_url":
        return None
    holder = part.get("image_url")
    url = holder.get("url") if isinstance(holder, Mapping) else holder
    if not isinstance(url, str):
        raise UnscorableError("a picture has a shape that we do not know")
    return url


def picture_urls(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every picture's URL, in order. Raises :class:`UnscorableError` for a picture of another shape."""
    return [url for message in messages for part in _parts(message) if (url := _url(part)) is not None]


def with_pictures(
    messages: Sequence[Mapping[str, Any]], changed: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """The messages with ``changed[url]`` for each of :func:`picture_urls`; the rest as it is."""

    def part_with(part: Any) -> Any:
        url = _url(part)
        if url is None:
            return part
        holder = part["image_url"]
        detail = {**holder, "url": changed[url]} if isinstance(holder, Mapping) else {"url": changed[url]}
        return {**part, "image_url": detail}

    return [
        {**message, "content": [part_with(part) for part in parts]} if (parts := _parts(message)) else message
        for message in messages
    ]
