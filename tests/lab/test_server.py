"""The lab's server as a client of OpenAI's sees it: the real ``openai`` package against a real uvicorn."""

import io
import json
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import torch
from PIL import Image
from pydantic import SecretStr

from sif_offline.fingerprint.images import to_data_url
from sif_offline.lab.server import Engine, ServeError, build_app, serve_in_thread


def png(color=(200, 40, 40), size=(224, 224)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="PNG")
    return buffer.getvalue()


def asking(text="What is in the picture?", *, image=None):
    parts = [{"type": "text", "text": text}]
    if image is not None:
        parts.insert(0, {"type": "image_url", "image_url": {"url": image}})
    return [{"role": "user", "content": parts}]


def expected_text(tiny, text, image=None, **options):
    model, processor = tiny
    prompt = processor.prompt(text, image=image is not None)
    inputs = processor(prompt, images=Image.open(io.BytesIO(image)) if image else None)
    out = model.generate(**inputs, do_sample=False, **options)[0, inputs["input_ids"].shape[1] :]
    return (
        processor.tokenizer.decode(out, skip_special_tokens=True).lstrip(),
        len(out),
        inputs["input_ids"].shape[1],
    )


@pytest.mark.parametrize("image", [None, png()], ids=["words", "picture"])
def test_answers_as_generate_does_and_counts_tokens(client, tiny, image):
    wanted, tokens, prompt = expected_text(tiny, "describe it", image)
    answer = client.chat.completions.create(
        model="tiny", messages=asking("describe it", image=to_data_url(image) if image else None)
    )
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == wanted
    assert wanted
    assert answer.choices[0].message.role == "assistant"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompt, tokens)
    assert answer.usage.total_tokens == prompt + tokens
    assert answer.choices[0].finish_reason == "length"  # a random model does not end its sentences


def test_the_picture_reaches_the_model(client, tiny, monkeypatch):
    noise = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise.numpy()).save(buffer, format="PNG")
    seen = []
    original = tiny[0].encode_images
    monkeypatch.setattr(tiny[0], "encode_images", lambda pixels: seen.append(pixels) or original(pixels))
    client.chat.completions.create(
        model="tiny", messages=asking(image=to_data_url(buffer.getvalue())), max_tokens=2
    )
    assert torch.equal(seen[0], tiny[1].pixel_values([Image.fromarray(noise.numpy())]))


def test_streamed_words_are_the_unstreamed_ones(client):
    messages = asking("say a lot", image=to_data_url(png()))
    whole = client.chat.completions.create(model="tiny", messages=messages)
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(words) == whole.choices[0].message.content
    assert sum(map(bool, words)) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_stream_on_the_wire_ends_with_done_and_has_usage_only_on_demand(server_url):
    body = {"model": "tiny", "messages": asking(), "stream": True, "max_tokens": 4}
    answer = httpx.post(f"{server_url}/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert all("usage" not in json.loads(event.removeprefix("data: ")) for event in events[:-1])


def test_a_stop_string_ends_the_answer_before_it_streamed_or_not(client):
    messages = asking("on and on")
    whole = client.chat.completions.create(model="tiny", messages=messages).choices[0].message.content
    stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
    cut = client.chat.completions.create(model="tiny", messages=messages, stop=[stop, "never said"])
    assert cut.choices[0].message.content == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    streamed = client.chat.completions.create(model="tiny", messages=messages, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole[: whole.index(stop)]


def test_max_tokens_bounds_the_answer(client):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(model="tiny", messages=asking(), **{name: 3})
        assert answer.usage.completion_tokens == 3
        assert answer.choices[0].finish_reason == "length"


def test_sampling_follows_the_seed_and_leaves_the_process_generator_alone(client):
    def sample(**options):
        answer = client.chat.completions.create(model="tiny", messages=asking(), temperature=1.5, **options)
        return answer.choices[0].message.content

    state = torch.random.get_rng_state()
    assert sample(seed=7) == sample(seed=7)
    # 24 tokens of an untrained model over 512: two seeds, or two unseeded draws, agree with p < 1e-20.
    assert sample(seed=7) != sample(seed=8)
    assert sample() != sample()
    assert torch.equal(state, torch.random.get_rng_state())
    greedy = client.chat.completions.create(model="tiny", messages=asking()).choices[0].message.content
    assert sample(seed=7, top_p=1e-9) == greedy != sample(seed=7)


def test_models_and_health(client, server_url):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")
    assert httpx.get(f"{server_url}/health").json() == {"status": "ok", "model": "tiny", "requests": 0}


def test_a_conversation_with_a_system_message_is_templated_in_order(client, tiny):
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a dog"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "text", "text": "a man"}]},
    ]
    _, processor = tiny
    text = "<s><|system|>be brief<|user|>a dog<|assistant|>yes</s><|user|>a man<|assistant|>"
    answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=2)
    assert answer.usage.prompt_tokens == processor(text)["input_ids"].shape[1]


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


def test_a_body_that_never_comes_is_a_408(tiny, monkeypatch):
    monkeypatch.setattr("sif_offline.lab.server.app.BODY_SECONDS", 0.2)
    with serve_in_thread(build_app(Engine(*tiny), model_name="tiny")) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        wait_for_requests(url, 0)


def test_many_at_once_each_get_their_own_answer(client):
    prompts = [f"tell me about number {n} and a dog" for n in range(6)]

    def ask(prompt):
        return (
            client.chat.completions.create(model="tiny", messages=asking(prompt)).choices[0].message.content
        )

    alone = [ask(prompt) for prompt in prompts]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, prompts)) == alone


def wait_for_requests(url, count):
    end = time.monotonic() + 20
    while httpx.get(f"{url}/health").json()["requests"] != count:
        assert time.monotonic() < end
        time.sleep(0.01)


def hold_back(monkeypatch, model):
    """The model answers only once the returned event is set."""
    go = threading.Event()
    original = model.generate
    monkeypatch.setattr(model, "generate", lambda *args, **kwargs: go.wait(30) and original(*args, **kwargs))
    return go


def test_a_full_queue_is_a_503_and_health_still_answers(tiny, monkeypatch):
    with (
        serve_in_thread(build_app(Engine(*tiny, max_queue=2), model_name="tiny")) as url,
        ThreadPoolExecutor(2) as pool,
        openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
    ):

        def ask():
            return client.chat.completions.create(model="tiny", messages=asking(), max_tokens=2)

        go = hold_back(monkeypatch, tiny[0])
        waiting = [pool.submit(ask), pool.submit(ask)]
        try:
            wait_for_requests(url, 2)
            with pytest.raises(openai.InternalServerError) as caught:
                ask()
            assert caught.value.status_code == 503
            assert caught.value.code == "queue_full"
            assert caught.value.response.headers["retry-after"] == "1"
        finally:
            go.set()
        assert all(future.result().usage.completion_tokens == 2 for future in waiting)
        assert ask().usage.completion_tokens == 2  # the places were given back


def test_clients_that_leave_while_they_wait_give_their_places_back(tiny, monkeypatch):
    with serve_in_thread(build_app(Engine(*tiny), model_name="tiny")) as url:
        go = hold_back(monkeypatch, tiny[0])
        try:
            for stream in (False, True, False):  # the first is being answered, the others are in the queue
                body = {"model": "tiny", "messages": asking(), "stream": stream}
                with pytest.raises(httpx.ReadTimeout):
                    httpx.post(f"{url}/v1/chat/completions", json=body, timeout=0.3)
            wait_for_requests(url, 0)
        finally:
            go.set()


def test_a_client_that_leaves_a_stream_stops_the_model(tiny, monkeypatch):
    lengths = []
    original = tiny[0].generate
    with serve_in_thread(build_app(Engine(*tiny), model_name="tiny")) as url:
        monkeypatch.setattr(tiny[0], "generate", lambda **kw: lengths.append(original(**kw).shape[1]))
        body = {"model": "tiny", "messages": asking(), "max_tokens": 950, "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
            assert next(answer.iter_lines()).startswith("data: ")
        wait_for_requests(url, 0)
    assert lengths[0] < 900


def test_a_model_that_fails_is_a_500_without_details(tiny, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("secret inside")

    with serve_in_thread(build_app(Engine(*tiny), model_name="tiny")) as url:
        monkeypatch.setattr(tiny[0], "generate", broken)
        for stream in (False, True):
            body = {"model": "tiny", "messages": asking(), "stream": stream}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body)
            assert "secret" not in answer.text
            assert "server_error" in answer.text
            assert "[DONE]" not in answer.text
            assert answer.status_code == (200 if stream else 500)


def test_a_model_that_fails_at_its_first_token_is_never_called_ready(tiny, monkeypatch):
    monkeypatch.setattr(tiny[0], "generate", None)
    with (
        pytest.raises(ServeError, match="did not start"),
        serve_in_thread(build_app(Engine(*tiny), model_name="tiny")),
    ):
        pass


def test_an_api_key_is_asked_for_where_one_is_set(tiny):
    app = build_app(Engine(*tiny), model_name="tiny", api_key=SecretStr("sesame"))
    with serve_in_thread(app) as url:
        for key, right in (("sesame", True), ("guess", False)):
            with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
                if right:
                    assert client.chat.completions.create(model="tiny", messages=asking(), max_tokens=1)
                    assert client.models.list().data
                    continue
                with pytest.raises(openai.AuthenticationError) as caught:
                    client.chat.completions.create(model="tiny", messages=asking())
                assert caught.value.code == "invalid_api_key"
                with pytest.raises(openai.AuthenticationError):
                    client.models.list()
        assert httpx.get(f"{url}/health").status_code == 200


def test_a_taken_port_is_a_one_line_error(tiny):
    engine = Engine(*tiny)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServeError, match=rf"127.0.0.1:{port}: cannot listen"),
            serve_in_thread(build_app(engine, model_name="tiny"), port=port),
        ):
            pass
    engine.close()
