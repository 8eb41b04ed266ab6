"""One exchange, whatever the route and whoever serves it: what the adapters hand to the engine."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_TEXTS = 64
MAX_IMAGES = 16
MAX_IMAGE_BYTES = 20_000_000  # of one picture, encoded
_AT_ONCE = 2**20  # characters of base64, a multiple of four
UNSCORED_ROLES = frozenset({"assistant", "tool", "function"})  # any other is the client's, known or not
FILES = frozenset({"file", "input_file", "document"})  # parts whose text is not scored
STANDING_ROLES = frozenset({"system", "developer"})


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks. ``teams``, ``keys``: every name they go by (alias, id, hash), never the key itself."""

    teams: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    end_user: str = ""

    @property
    def team(self) -> str:
        """One name of the team, for the audit record: the shortest."""
        return min(self.teams, default="", key=len)

    @property
    def key(self) -> str:
        """One name of the key, for the audit record: the shortest."""
        return min(self.keys, default="", key=len)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What an adapter has read off its wire.

    call: the same string in both phases of one call, chosen by the gateway and not by the client; empty
        where the two phases cannot be told to belong together.
    route: chat, responses, messages, embeddings, completions or other.
    model: the alias the client asked for.
    messages: in OpenAI's chat shape; empty where the route has none that we understand.
    texts: what is scored where there are no messages (embeddings, plain completions).
    request: the request's body, for its options (tools, response_format, n, sampling).
    headers: the request's, names in lower case.
    answers: what the model said, one text a choice; empty in the request phase.
    has_tool_calls: whether an answer calls tools.
    unread: texts of the query that cannot be read (token ids).
    fault: why the answer cannot be compared though it should be (``unknown_call``, ``unread_answer``): a
        failure of the comparison, for which its ``on_failure`` holds.
    """

    call: str
    route: str = "chat"
    model: str = ""
    messages: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)
    request: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    caller: Caller = field(default_factory=Caller)
    answers: tuple[str, ...] = field(default=(), repr=False)
    has_tool_calls: bool = False
    unread: int = 0
    fault: str = ""


def query_texts(exchange: Exchange, *, transcript: str = "unseen") -> tuple[tuple[str, ...], int]:
    """The texts of the client's own messages to score, oldest first, at most 64, and how many are left out.

    transcript: ``unseen`` takes every message but answers and tool results (a model's server may know a
    role that we do not), because a client writes its own transcript and could hide a trigger in an earlier
    turn; findings are remembered, so an honest transcript's old turns cost nothing. ``last`` takes the
    system messages and what came after the last assistant message.
    The parts of one message are joined, so that a trigger cannot be split between them. Files in a message
    count as left out: nobody reads them here.
    """
    files = 0
    if not exchange.messages:
        kept = list(exchange.texts)
    else:
        roles = [str(message.get("role")) for message in exchange.messages]
        answered = max((i for i, role in enumerate(roles) if role == "assistant"), default=-1)
        kept = []
        for index, (role, message) in enumerate(zip(roles, exchange.messages, strict=True)):
            old = transcript == "last" and role not in STANDING_ROLES and index < answered
            if role in UNSCORED_ROLES or old:
                continue
            text = message_text(message)
            if text is not None:
                kept.append(text)
            files += sum(part.get("type") in FILES and _text(part) is None for part in _parts(message))
    return tuple(kept[-MAX_TEXTS:]), max(0, len(kept) - MAX_TEXTS) + exchange.unread + files


def message_text(message: Mapping[str, Any]) -> str | None:
    """The text of one message, its parts joined by line ends; ``None`` where it has none."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    kept = [text for part in _parts(message) if (text := _text(part)) is not None]
    return "\n".join(kept) if kept else None


def _text(part: Mapping[str, Any]) -> str | None:
    """The text of a part; of an Anthropic document the text it was made from."""
    text, source = part.get("text"), part.get("source")
    if not isinstance(text, str) and part.get("type") == "document" and isinstance(source, Mapping):
        text = source.get("data") if source.get("type") == "text" else None
    return text if isinstance(text, str) else None


def image_urls(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The ``image_url`` values of all messages, oldest first: data URLs or addresses."""
    for message in messages:
        for part in _parts(message):
            url = part.get("image_url")
            if isinstance(url, Mapping):
                url = url.get("url")
            if isinstance(url, str):
                yield url


def query_images(exchange: Exchange) -> tuple[bytes, ...]:
    """The newest pictures that came as base64 data URLs, encoded as they were, at most 16 of 20 MB.

    Addresses are never fetched, and what is too large or no base64 is left out: a check that needs every
    picture counts :func:`image_urls` beside them.
    """
    found = [_data_url(url) for url in list(image_urls(exchange.messages))[-MAX_IMAGES:]]
    return tuple(data for data in found if data is not None)


def _data_url(url: str) -> bytes | None:
    head, comma, _ = url[:128].partition(",")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        return None
    if len(url) - len(head) > MAX_IMAGE_BYTES * 4 // 3:
        return None
    starts = range(len(head) + 1, len(url), _AT_ONCE)
    if starts and url.find("=", starts[0], starts[-1]) >= 0:
        return None  # an end before the end
    try:  # piece by piece: decoding holds the interpreter's lock
        return b"".join(base64.b64decode(url[start : start + _AT_ONCE], validate=True) for start in starts)
    except (binascii.Error, ValueError):
        return None


def why_not_replaceable(exchange: Exchange) -> str:
    """Why a plain text must not take this answer's place; empty when it may."""
    request = exchange.request
    if exchange.has_tool_calls or request.get("tools") or request.get("functions"):
        return "tools are in play"
    if request.get("response_format") not in (None, {"type": "text"}) or _asks_for_a_format(request):
        return "a response format is asked for"
    if request.get("logprobs") or request.get("top_logprobs") or _includes_logprobs(request):
        return "log-probabilities are asked for"
    count = request.get("n")
    if (isinstance(count, int) and count > 1) or len(exchange.answers) > 1:
        return "several choices are asked for"
    return ""


_FORMATS = (
    "output_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
)


def _asks_for_a_format(request: Mapping[str, Any]) -> bool:
    """The responses route says it as ``text: {format: {type: ...}}``, Anthropic's as ``output_config:
    {format: ...}`` (``output_format`` before), vLLM in fields of its own."""
    holders = [request.get(name) for name in ("text", "output_config")]
    forms = [holder.get("format") for holder in holders if isinstance(holder, Mapping)]
    named = any(isinstance(form, Mapping) and form.get("type") not in (None, "text") for form in forms)
    return named or any(request.get(name) is not None for name in _FORMATS)


def _includes_logprobs(request: Mapping[str, Any]) -> bool:
    include = request.get("include")
    return isinstance(include, list) and any(isinstance(row, str) and "logprobs" in row for row in include)


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
