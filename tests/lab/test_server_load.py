"""The lab's server under many clients, clients that leave or say nothing, and a model that fails."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from sif_offline.lab.server import Engine, ServeError, build_app, serve_in_thread
from tests.lab.asking import asking


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
