"""What the lab's server refuses, with the words and codes of OpenAI's; what is accepted all the same."""

import socket
import struct
import zlib

import httpx
import openai
import pytest

from sif_offline.fingerprint.images import to_data_url
from tests.lab.asking import asking, png

REFUSED = {
    "n": ({"n": 2}, "'n'", "n"),
    "logprobs": ({"logprobs": True}, "'logprobs'", "logprobs"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "'tools'", "tools"),
    "response_format": ({"response_format": {"type": "json_object"}}, "'response_format'", "response_format"),
    "frequency_penalty": ({"frequency_penalty": 0.5}, "'frequency_penalty'", "frequency_penalty"),
    "unknown": ({"extra_body": {"best_of": 3}}, "best_of", "best_of"),
    "temperature": ({"temperature": 2.5}, "less than or equal to 2", "temperature"),
    "top_p": ({"top_p": 0}, "greater than 0", "top_p"),
    "max_tokens": ({"max_tokens": 0}, "greater than or equal to 1", "max_tokens"),
    "two limits": ({"max_tokens": 3, "max_completion_tokens": 4}, "disagree", "max_tokens"),
    "stop": ({"stop": ["a", "b", "c", "d", "e"]}, "one to four", "stop"),
    "seed": ({"seed": 2**63}, "9223372036854775808", "seed"),
    "stream_options": ({"stream_options": {"include_usage": True}}, "'stream' is true", "stream_options"),
    "no messages": ({"messages": []}, "at least 1 item", "messages"),
    "role": ({"messages": [{"role": "tool", "content": "x"}]}, "'user'", "messages.0.role"),
    "no content": ({"messages": [{"role": "user"}]}, "required", "messages.0.content"),
    "audio": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "'image_url'",
        "messages.0.content.0",
    ),
    "reserved": ({"messages": asking("an <image> of </s>")}, "'</s>'", "messages"),
    "http": ({"messages": asking(image="http://127.0.0.1:9/a.png")}, "fetches no URL", None),
    "https": ({"messages": asking(image="https://example.com/a.png")}, "fetches no URL", None),
    "file": ({"messages": asking(image="file:///etc/passwd")}, "fetches no URL", None),
    "text as image": ({"messages": asking(image=to_data_url(b"hello"))}, "image 1: not a picture", None),
    "not base64": ({"messages": asking(image="data:image/png;base64,!!!")}, "base64", None),
    "truncated": (
        {"messages": asking(image=to_data_url(png()[: len(png()) // 2]))},
        "image 1: damaged",
        None,
    ),
}


@pytest.mark.parametrize(("change", "said", "param"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_supported_is_an_honest_400_streamed_or_not(client, change, said, param):
    for stream in (False,) if "stream_options" in change else (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                **{"model": "tiny", "messages": asking(), "stream": stream, **change}
            )
        assert caught.value.type == "invalid_request_error"
        assert said in caught.value.body["message"]
        assert len(caught.value.body["message"]) < 400
        if param is not None:
            assert caught.value.param == param


def test_neutral_values_and_words_about_the_caller_are_accepted(client):
    answer = client.chat.completions.create(
        model="tiny",
        messages=asking(),
        n=1,
        presence_penalty=0,
        logprobs=False,
        user="u",
        metadata={"a": "b"},
        response_format={"type": "text"},
        max_tokens=2,
    )
    assert answer.usage.completion_tokens == 2


def test_a_url_is_never_fetched(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/cat.png"
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="tiny", messages=asking(image=url))
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_decompression_bomb_is_refused_by_its_header(client):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    bomb = (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000)) + chunk(b"IEND", b"")
    )
    with pytest.raises(openai.BadRequestError, match=r"image 1: .*over the limit"):
        client.chat.completions.create(model="tiny", messages=asking(image=to_data_url(bomb)))


def test_unknown_model_unknown_path_and_wrong_method_are_shaped_like_openai(client, server_url):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-5", messages=asking())
    assert caught.value.code == "model_not_found"
    assert "'gpt-5' does not exist" in caught.value.body["message"]
    for answer in (httpx.get(f"{server_url}/v1/nope"), httpx.get(f"{server_url}/v1/chat/completions")):
        assert answer.status_code in (404, 405)
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_context_overflow_says_so_in_openais_words(client):
    for change in ({"max_tokens": 5000}, {"messages": asking("dog " * 3000)}):
        with pytest.raises(openai.BadRequestError, match="maximum context length is 1024") as caught:
            client.chat.completions.create(**{"model": "tiny", "messages": asking(), **change})
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"model": "tiny"}'])
def test_bodies_that_are_no_request(server_url, body):
    answer = httpx.post(f"{server_url}/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "chunked"])
def test_a_huge_body_is_a_413_that_the_client_gets_to_see(server_url, declared):
    body = b"x" * (3 * 2**20)
    content = body if declared else iter([body[at : at + 65536] for at in range(0, len(body), 65536)])
    answer = httpx.post(f"{server_url}/v1/chat/completions", content=content, timeout=30)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
