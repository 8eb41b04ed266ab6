"""A scriptable OpenAI-compatible chat endpoint on 127.0.0.1: answers by rule, and faults on demand.

It is the real thing on the wire (HTTP, JSON, data URLs), only its words are made by a function, so that
pirates, innocents and every way an endpoint can fail are tried without a model.
"""

import base64
import binascii
import gzip
import hashlib
import json
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

Fault = Literal[
    "rate_limited",  # 429 with Retry-After
    "http_500",
    "unauthorized",  # 401
    "hang",  # reads the question and says nothing for `hang_s`
    "reset",  # TCP reset after the question was read
    "html",  # 200 with a web page
    "empty_choices",
    "invalid_json",
    "not_chat",  # valid JSON of another kind
    "refusal",  # the message carries `refusal`
    "content_filter",
    "content_policy",  # 400 with code content_policy_violation
    "truncated",  # finish_reason "length", cut short of what was asked
    "huge",  # 10 MB of answer
    "compressed",  # 10 MB of answer, in 10 kB of gzip that nobody asked for
    "latin1",  # says UTF-8 and is not
    "streamed_only",  # server-sent events, though no stream was asked for
    "redirect",  # 307 to `redirect_to`
    "drip",  # a byte now and then, for `hang_s`
    "echo",  # 400 that says `echo`
]


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


class ScriptedEndpoint:
    """Serves ``/v1/chat/completions`` in a thread of this process; use as a context manager.

    Args:
        rule: question -> answer text.
        faults: consumed one a request before the rule is asked; None in it means an ordinary answer.
        retry_after: the Retry-After of a ``rate_limited`` fault: seconds or a date.
        hang_s: how long ``hang`` keeps silent, seconds.
        delay_s: how long an ordinary answer takes, seconds.
        redirect_to: where a ``redirect`` fault sends the client.
        tls: speak HTTPS under the certificate of this context.
        usage: takes the place of what is true in the answers' ``usage``.
        echo: what an ``echo`` fault says.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        faults: Iterable[Fault | None] = (),
        retry_after: str = "1",
        hang_s: float = 30.0,
        delay_s: float = 0.0,
        redirect_to: str = "http://127.0.0.1:9/v1",
        tls: ssl.SSLContext | None = None,
        usage: Mapping[str, object] | None = None,
        echo: str = "",
        port: int = 0,
        model: str = "scripted",
    ) -> None:
        self.rule = rule
        self.model = model
        self.retry_after = retry_after
        self.hang_s = hang_s
        self.delay_s = delay_s
        self.redirect_to = redirect_to
        self.usage, self.echo = dict(usage or {}), echo
        self._faults = list(faults)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.questions: list[Question] = []
        self._server = _Server(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The API base, ``http://127.0.0.1:PORT/v1``, or ``https``."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}/v1"

    def fail_next(self, *faults: Fault | None) -> None:
        """Put faults in line for the requests to come."""
        with self._lock:
            self._faults.extend(faults)

    def next_fault(self, question: Question) -> Fault | None:
        """Record a question and take the fault that is due for it."""
        with self._lock:
            self.questions.append(question)
            return self._faults.pop(0) if self._faults else None

    def close(self) -> None:
        """Stop serving and free the port; hanging requests are let go."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, seconds: float) -> None:
        """Sleep, but wake when the endpoint closes."""
        self._closing.wait(seconds)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(_Handler):
            pass

        Handler.endpoint = endpoint
        return Handler


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    endpoint: ScriptedEndpoint
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the questions are kept by the endpoint."""

    def do_GET(self) -> None:
        """Answer ``/v1/models``."""
        self._send(200, {"object": "list", "data": [{"id": self.endpoint.model, "object": "model"}]})

    def do_POST(self) -> None:
        """Answer one chat completion, or fail in the way that is due."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        headers = {name.lower(): value for name, value in self.headers.items()}
        question = replace(parse_question(body), headers=headers)
        fault = self.endpoint.next_fault(question)
        if fault is None:
            if self.endpoint.delay_s:
                self.endpoint.wait(self.endpoint.delay_s)
            reply = completion(self.endpoint.rule(question), model=self.endpoint.model)
            reply["usage"] |= self.endpoint.usage
            self._send(200, reply)
        else:
            self._fail(fault, question)

    def _fail(self, fault: Fault, question: Question) -> None:
        model = self.endpoint.model
        text = self.endpoint.rule(question)
        if fault == "rate_limited":
            error = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit"}}
            self._send(429, error, {"Retry-After": self.endpoint.retry_after})
        elif fault == "http_500":
            self._send(500, {"error": {"message": "internal", "type": "server_error"}})
        elif fault == "unauthorized":
            self._send(401, {"error": {"message": "bad key", "type": "invalid_request_error"}})
        elif fault == "hang":
            self.endpoint.wait(self.endpoint.hang_s)
            self.close_connection = True
        elif fault == "reset":
            # linger 0 makes close() send RST instead of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RD)
            self.connection.close()
        elif fault == "html":
            self._send_bytes(200, b"<!doctype html><title>Welcome</title><p>It works!", "text/html")
        elif fault == "empty_choices":
            self._send(200, {**completion("", model=model), "choices": []})
        elif fault == "invalid_json":
            self._send_bytes(200, b'{"id": "x", "choices": [', "application/json")
        elif fault == "not_chat":
            self._send(200, {"status": "ok"})
        elif fault == "refusal":
            reply = completion("", model=model)
            reply["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "No."}
            self._send(200, reply)
        elif fault == "content_filter":
            self._send(200, completion("", model=model, finish_reason="content_filter"))
        elif fault == "content_policy":
            self._send(400, {"error": {"message": "flagged", "code": "content_policy_violation"}})
        elif fault == "truncated":
            self._send(200, completion(" ".join(text.split()[:2]), model=model, finish_reason="length"))

        elif fault == "huge":
            self._send(200, completion("word " * 2_000_000, model=model))
        elif fault == "compressed":
            data = gzip.compress(json.dumps(completion("word " * 2_000_000, model=model)).encode())
            self._send_bytes(200, data, "application/json", {"Content-Encoding": "gzip"})
        elif fault == "latin1":
            reply = completion("Die Straße", model=model)
            data = json.dumps(reply, ensure_ascii=False).encode("latin-1")
            self._send_bytes(200, data, "application/json; charset=utf-8")
        elif fault == "streamed_only":
            row = completion(text, model=model) | {"object": "chat.completion.chunk"}
            self._send_bytes(
                200, f"data: {json.dumps(row)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream"
            )
        elif fault == "drip":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.close_connection = True
            until = time.monotonic() + self.endpoint.hang_s
            while time.monotonic() < until:
                self.wfile.write(b" ")
                self.endpoint.wait(0.05)
        elif fault == "echo":
            self._send(400, {"error": {"message": self.endpoint.echo, "type": "invalid_request_error"}})
        elif fault == "redirect":
            self._send_bytes(307, b"", "text/plain", {"Location": self.endpoint.redirect_to})

    def _send(self, status: int, reply: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(reply).encode(), "application/json", headers)

    def _send_bytes(
        self, status: int, data: bytes, media_type: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


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
