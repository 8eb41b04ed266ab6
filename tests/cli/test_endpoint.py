"""Replies that no honest endpoint sends: each is an outcome that can be written down."""

import base64
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sif_offline.cli.endpoint import MAX_REPLY_BYTES, make_ask, make_endpoint
from sif_offline.fingerprint.evidence.transcript import body_text

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def completion(content: str, more: str = "") -> bytes:
    message = f'{{"role":"assistant","content":{content}}}'
    choice = f'{{"index":0,"finish_reason":"stop","message":{message}}}'
    return (
        f'{{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{choice}]{more}}}'.encode()
    )


REPLIES = {
    "a lone surrogate": (completion('"a \\ud800 dog"'), "answer"),
    "one beside the answer": (completion('"a dog"', ',"x":"\\ud800"'), "answer"),
    "nested 900 deep": (completion('"a dog"', f',"x":{"[" * 900}{"]" * 900}'), "answer"),
    "longer than can be kept": (completion(f'"{"dog " * (MAX_REPLY_BYTES // 4)}"'), "in_doubt:too_large"),
    "not a number": (completion('"a dog"', ',"x":NaN'), "answer"),
    "a number of 400 digits": (completion('"a dog"', f',"x":{"9" * 400}'), "answer"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_hostile_reply_is_an_outcome(name: str) -> None:
    body, outcome = REPLIES[name]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        asked = make_ask(make_endpoint(url, "m", api_key_env=None, timeout_s=20))(PIXEL, "Describe.", 48)
        thread.join()
    assert asked.outcome == outcome
    assert len(body_text(asked.response)) <= MAX_REPLY_BYTES
