"""A real server in a thread of this process that answers POSTs by rule and fails on demand."""

import gzip
import json
import socket
import ssl
import struct
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypedDict, TypeVar, Unpack, get_args

WireFault = Literal[
    "rate_limited",  # 429 with Retry-After
    "http_500",
    "unauthorized",  # 401
    "hang",  # reads the question and says nothing for `hang_s`
    "reset",  # TCP reset after the question was read
    "html",  # 200 with a web page
    "invalid_json",
    "huge",  # 10 MB of answer
    "compressed",  # 10 MB of answer, in 10 kB of gzip that nobody asked for
    "redirect",  # 307 to `redirect_to`
    "drip",  # a byte now and then, for `hang_s`
    "echo",  # 400 that says `echo`
]
"""What any server can do, whatever it speaks."""

WIRE_FAULTS: tuple[WireFault, ...] = get_args(WireFault)

QuestionT = TypeVar("QuestionT")
FaultT = TypeVar("FaultT", bound=str)


class WireOptions(TypedDict, total=False):
    """How a server behaves on the wire.

    retry_after: the Retry-After of a ``rate_limited`` fault: seconds or a date; "1".
    hang_s: how long ``hang`` keeps silent, seconds; 30.
    delay_s: how long an ordinary answer takes, seconds; 0.
    redirect_to: where a ``redirect`` fault sends the client.
    tls: speak HTTPS under the certificate of this context.
    echo: what an ``echo`` fault says.
    port: 0, the default, takes a free one.
    """

    retry_after: str
    hang_s: float
    delay_s: float
    redirect_to: str
    tls: ssl.SSLContext | None
    echo: str
    port: int


class FaultyServer(ABC, Generic[QuestionT, FaultT]):
    """Serves on 127.0.0.1 from when it is made; use as a context manager.

    Args:
        faults: consumed one a request; None in it means an ordinary answer.
        wire: see ``WireOptions``.
    """

    def __init__(self, *, faults: Iterable[FaultT | None] = (), **wire: Unpack[WireOptions]) -> None:
        self.retry_after = wire.get("retry_after", "1")
        self.hang_s = wire.get("hang_s", 30.0)
        self.delay_s = wire.get("delay_s", 0.0)
        self.redirect_to = wire.get("redirect_to", "http://127.0.0.1:9/v1")
        self.echo = wire.get("echo", "")
        tls = wire.get("tls")
        self._faults = list(faults)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.questions: list[QuestionT] = []
        self._server = _Server(("127.0.0.1", wire.get("port", 0)), self._handler())
        self._server.daemon_threads = True
        scheme = "http" if tls is None else "https"
        self.root = f"{scheme}://127.0.0.1:{self._server.server_port}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @abstractmethod
    def read(self, path: str, headers: dict[str, str], body: Any) -> QuestionT:
        """What a request asks; ``headers`` have names in lower case."""

    @abstractmethod
    def reply(self, question: QuestionT) -> tuple[int, Any]:
        """The status and the JSON of an ordinary answer; made for every request, also for those that fail."""

    @abstractmethod
    def large(self) -> Any:
        """JSON of about 10 MB that this server could send."""

    @abstractmethod
    def misbehave(self, fault: FaultT, question: QuestionT, said: Any) -> tuple[int, bytes, str]:
        """The status, body and media type of a fault that is none of :data:`WIRE_FAULTS`; ``said`` is the
        ordinary answer in whose place they are.
        """

    def models(self) -> Any:
        """The JSON that any GET gets."""
        return {}

    def fail_next(self, *faults: FaultT | None) -> None:
        """Put faults in line for the requests to come."""
        with self._lock:
            self._faults.extend(faults)

    def next_fault(self, question: QuestionT) -> FaultT | None:
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
    endpoint: FaultyServer[Any, Any]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the questions are kept by the endpoint."""

    def do_GET(self) -> None:
        """Answer every path alike."""
        self._send(200, self.endpoint.models())

    def do_POST(self) -> None:
        """Answer one question, or fail in the way that is due."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        headers = {name.lower(): value for name, value in self.headers.items()}
        question = self.endpoint.read(self.path, headers, body)
        fault = self.endpoint.next_fault(question)
        if fault is None and self.endpoint.delay_s:
            self.endpoint.wait(self.endpoint.delay_s)
        status, said = self.endpoint.reply(question)
        if fault is None:
            self._send(status, said)
        elif fault in WIRE_FAULTS:
            self._fail(fault)
        else:
            self._send_bytes(*self.endpoint.misbehave(fault, question, said))

    def _fail(self, fault: WireFault) -> None:
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
        elif fault == "invalid_json":
            self._send_bytes(200, b'{"id": "x", "choices": [', "application/json")
        elif fault == "huge":
            self._send(200, self.endpoint.large())
        elif fault == "compressed":
            data = gzip.compress(json.dumps(self.endpoint.large()).encode())
            self._send_bytes(200, data, "application/json", {"Content-Encoding": "gzip"})
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

    def _send(self, status: int, reply: Any, headers: dict[str, str] | None = None) -> None:
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
