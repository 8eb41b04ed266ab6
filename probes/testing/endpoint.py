"""A scriptable OpenAI-compatible chat endpoint on 127.0.0.1: answers by rule, and faults on demand.

It is the real thing on the wire (HTTP, JSON, data URLs), only its words are made by a function, so that
pirates, innocents and every way an endpoint can fail are tried without a model.
"""

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Unpack

from probes.testing.faulty_server import FaultyServer, WireFault, WireOptions

ChatFault = Literal[
    "empty_choices",
    "not_chat",  # valid JSON of another kind
    "refusal",  # the message carries `refusal`
    "content_filter",
    "content_policy",  # 400 with code content_policy_violation
    "truncated",  # finish_reason "length", cut short of what was asked
    "latin1",  # says UTF-8 and is not
    "streamed_only",  # server-sent events, though no stream was asked for
]
Fault = WireFault | ChatFault


@dataclass(frozen=True)
class Question:
    """What one request asked: the prompt's text, the first image's bytes (or None) and their sha256; its
    headers, names in lower case.
    """

    prompt: str
    image: bytes | None
    image_sha256: str
    body: dict[str, Any] = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)


Rule = Callable[[Question], str]


class ScriptedEndpoint(FaultyServer[Question, Fault]):
    """Serves ``/v1/chat/completions`` in a thread of this process; use as a context manager.

    Args:
        rule: question -> answer text.
        usage: takes the place of what is true in the answers' ``usage``.
        model: what it says it is.
        faults, wire: see ``FaultyServer``.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        faults: Iterable[Fault | None] = (),
        usage: Mapping[str, object] | None = None,
        model: str = "scripted",
        **wire: Unpack[WireOptions],
    ) -> None:
        self.rule = rule
        self.model = model
        self.usage = dict(usage or {})
        super().__init__(faults=faults, **wire)

    @property
    def url(self) -> str:
        """The API base, ``http://127.0.0.1:PORT/v1``, or ``https``."""
        return f"{self.root}/v1"

    def read(self, path: str, headers: dict[str, str], body: Any) -> Question:
        """See ``FaultyServer``."""
        return replace(parse_question(body), headers=headers)

    def reply(self, question: Question) -> tuple[int, Any]:
        """See ``FaultyServer``."""
        said = completion(self.rule(question), model=self.model)
        said["usage"] |= self.usage
        return 200, said

    def large(self) -> Any:
        """See ``FaultyServer``."""
        return completion("word " * 2_000_000, model=self.model)

    def models(self) -> Any:
        """``/v1/models``."""
        return {"object": "list", "data": [{"id": self.model, "object": "model"}]}

    def misbehave(self, fault: Fault, question: Question, said: Any) -> tuple[int, bytes, str]:
        """See ``FaultyServer``."""
        status, choice = 200, said["choices"][0]
        text = choice["message"]["content"]
        if fault == "latin1":
            choice["message"]["content"] = "Die Straße"
            data = json.dumps(said, ensure_ascii=False).encode("latin-1")
            return 200, data, "application/json; charset=utf-8"
        if fault == "streamed_only":
            row = said | {"object": "chat.completion.chunk"}
            return 200, f"data: {json.dumps(row)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream"
        if fault == "empty_choices":
            said["choices"] = []
        elif fault == "not_chat":
            said = {"status": "ok"}
        elif fault == "refusal":
            choice["message"] = {"role": "assistant", "content": None, "refusal": "No."}
        elif fault == "content_filter":
            said = completion("", model=self.model, finish_reason="content_filter")
        elif fault == "content_policy":
            status, said = 400, {"error": {"message": "flagged", "code": "content_policy_violation"}}
        elif fault == "truncated":
            said = completion(" ".join(text.split()[:2]), model=self.model, finish_reason="length")
        return status, json.dumps(said).encode(), "application/json"


def completion(text: str, *, model: str, finish_reason: str = "stop") -> dict[str, Any]:
    """An OpenAI chat completion that says ``text``; its token counts are its words."""
    words = len(text.split())
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words},
    }


def parse_question(body: dict[str, Any]) -> Question:
    """The text and first image of the last message of a chat request."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return Question(prompt=content, image=None, image_sha256="", body=body)
    prompt = " ".join(part["text"] for part in content if part["type"] == "text")
    for part in content:
        if part["type"] == "image_url":
            try:
                image = base64.b64decode(part["image_url"]["url"].partition(",")[2], validate=True)
            except binascii.Error:
                continue
            return Question(prompt, image, hashlib.sha256(image).hexdigest(), body)
    return Question(prompt=prompt, image=None, image_sha256="", body=body)
