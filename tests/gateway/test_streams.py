"""The reader of streamed answers, by itself."""

import json
import time
from random import Random

import pytest

from gateway_plugin.wire.streams import StreamReader
from tests.gateway.model_server import HONEST, ROUTES, stream_events


@pytest.mark.parametrize("route", list(ROUTES))
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_stream_is_read_alike_however_it_is_cut(route: str, end: bytes) -> None:
    data = b": keep-alive\n\n" + b"".join(stream_events(route, f"{HONEST} \u2028 déjà vu"))
    data = data.replace(b"\n", end)
    random = Random(7)
    for _ in range(50):
        reader, start = StreamReader(route), 0
        while start < len(data):
            size = random.choice([1, 2, 7, 100])
            reader.feed(data[start : start + size])
            start += size
        assert reader.answer().texts[0].split() == [*HONEST.split(), "déjà", "vu"]
        assert reader.head["model"] == "served"


def test_reading_an_event_of_many_pieces_costs_no_more_than_its_length() -> None:
    """Copying what came before with each piece would move 16 GB here, some seconds of processor time."""
    said = "x" * (4 * 2**20)
    event = json.dumps({"id": "c", "choices": [{"index": 0, "delta": {"content": said}}]}).encode()
    reader = StreamReader("chat")
    began = time.process_time()
    for start in range(0, len(event), 512):
        reader.feed((b"" if start else b"data: ") + event[start : start + 512])
    reader.feed(b"\n\n")
    spent = time.process_time() - began
    assert reader.answer().texts == (said,)
    assert spent < 1.0


@pytest.mark.parametrize("route", list(ROUTES))
def test_what_no_stream_of_the_route_holds_is_unread(route: str) -> None:
    for data in (b"", b"data: {", b"data: [1]\n\n", b'data: {"choices": 5, "type": 1}', b"\xff" * 99):
        reader = StreamReader(route)
        reader.feed(data)
        assert not reader.answer().texts
        assert reader.answer().fault == "unread_answer" or data.startswith(b'data: {"choices"')
