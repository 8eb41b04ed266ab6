"""The middleware around a small model server, behind a real uvicorn, with OpenAI's client in front."""

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from fastapi import FastAPI
from openai import OpenAI
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion
from prometheus_client import CollectorRegistry

from benchmarks.ports import free_port
from gateway_plugin.asgi import GatewayMiddleware
from gateway_plugin.config import read_configuration
from gateway_plugin.exchange import Caller
from gateway_plugin.metrics import GatewayMetrics
from gateway_plugin.references import Models
from tests.gateway.model_server import HONEST, ROUTES, STRANGE, Answers
from tests.gateway.words import GIBBERISH, WordScreener

REFERENCE = "A brown dog runs across a field."


class Reference:
    """The reference model. A question that says REFDOWN or REFSLOW gets no answer."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.cancelled = 0

    async def complete(self, **call: Any) -> ChatCompletion:
        self.asked.append(call)
        said = str(call["messages"])
        if "REFDOWN" in said:
            raise ConnectionError
        try:
            await asyncio.sleep(30 if "REFSLOW" in said else 0.05)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        message = {"role": "assistant", "content": REFERENCE}
        return ChatCompletion.model_validate(
            {
                "id": "r",
                "object": "chat.completion",
                "created": 1,
                "model": "ref",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": CompletionUsage(prompt_tokens=7, completion_tokens=13, total_tokens=20),
            }
        )


SETTINGS: dict[str, dict[str, Any]] = {
    "replace": {"action": "replace", "checks": {"perplexity": {"action": "block"}}},
    "replace-all": {"action": "replace"},
    "block": {"action": "block"},
    "flag": {"action": "flag"},
    "dry": {"action": "block", "dry_run": True},
    "late": {"action": "flag", "reference_timeout_s": 1.0},
    "closed": {"action": "flag", "checks": {"divergence": {"on_failure": "closed"}}},
    "quiet": {"action": "replace", "disclosure": "none"},
    "teams": {
        "action": "flag",
        "overrides": [{"match": {"team": "strict"}, "settings": {"action": "block"}}],
    },
}


class Service:
    """One server; under /NAME the model server with the middleware of that name's settings."""

    def __init__(self, url: str, answers: Answers, reference: Reference, metrics: CollectorRegistry) -> None:
        self.url, self.answers, self.reference, self._registry = url, answers, reference, metrics
        self.client = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))

    def openai(self, name: str) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/{name}/v1", api_key="sk-test", max_retries=0, timeout=60)

    def post(self, name: str, route: str, text: Any, **more: Any) -> httpx.Response:
        headers = more.pop("headers", {})
        body: dict[str, Any] = {"model": "main", **more}
        if route == "responses":
            body["input"] = text
        elif route in ROUTES:
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["input" if route == "embeddings" else "prompt"] = text
        path = f"{self.url}/{name}/v1/{ROUTES.get(route, route)}"
        return self.client.post(path, json=body, headers=headers)

    def metric(self, name: str, /, **labels: str) -> float:
        return self._registry.get_sample_value(f"sif_gateway_{name}_total", labels) or 0.0


def by_header(scope: Mapping[str, Any]) -> Caller:
    team = dict(scope["headers"]).get(b"x-team", b"").decode()
    return Caller(teams=frozenset({team}))


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    answers, reference, registry = Answers(), Reference(), CollectorRegistry()
    metrics = GatewayMetrics(registry)
    outer = FastAPI()
    for name, settings in SETTINGS.items():
        whole = {
            "reference_model": "ref",
            "reference_is_local": True,
            "reference_timeout_s": 20.0,
            **settings,
        }
        screened = GatewayMiddleware(
            answers.app,
            configuration=read_configuration(whole, where=name),
            models=Models(complete=lambda: reference.complete),
            identify=by_header,
            max_body_bytes=100_000,
            max_answer_bytes=200_000,
            metrics=metrics,
            screeners=lambda _: WordScreener(metrics=metrics),
        )
        outer.mount(f"/{name}", screened)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(outer, host="127.0.0.1", port=port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started
    made = Service(f"http://127.0.0.1:{port}", answers, reference, registry)
    with made.client:
        yield made
    server.should_exit = True
    thread.join(timeout=20)


def texts_of(route: str, response: httpx.Response) -> str:
    """The answer's text, streamed or not, as a client puts it together."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        body = response.json()
        if route == "chat":
            return str(body["choices"][0]["message"]["content"])
        content = body["content"] if route == "messages" else body["output"][0]["content"]
        return "".join(part["text"] for part in content)
    events = [json.loads(line[5:]) for line in response.text.splitlines() if line.startswith("data: {")]
    if route == "chat":
        return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
    if route == "messages":
        return "".join(e["delta"].get("text", "") for e in events if e["type"] == "content_block_delta")
    return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", list(ROUTES))
def test_each_route_passes_replaces_and_blocks(service: Service, route: str, stream: bool) -> None:
    honest = service.post("replace", route, "What does it do?", stream=stream)
    assert (honest.status_code, texts_of(route, honest).rstrip()) == (200, HONEST)
    assert "x-sif-gateway-replaced" not in honest.headers
    replaced = service.post("replace", route, "DIVERGE", stream=stream)
    assert (replaced.status_code, texts_of(route, replaced)) == (200, REFERENCE)
    assert "Vienna" not in replaced.text
    assert replaced.headers["x-sif-gateway-replaced"] == "true"
    assert replaced.headers["x-sif-gateway-billed-models"] == "main, ref"
    assert len(replaced.headers["x-sif-gateway-audit-id"]) == 32
    assert "etag" not in replaced.headers
    asked = service.answers.asked[route]
    refused = service.post("replace", route, GIBBERISH, stream=stream)
    assert refused.status_code == 400
    assert service.answers.asked[route] == asked
    error = refused.json()["error"]
    assert error["message"] == "The query was refused by the gateway's screening (perplexity)."
    assert error["type"] == "invalid_request_error"
    assert (refused.json().get("type") == "error") is (route == "messages")
    late = service.post("block", route, "DIVERGE", stream=stream)
    assert late.status_code == 400
    assert "Vienna" not in late.text


def test_the_openai_client_reads_what_takes_an_answers_place(service: Service) -> None:
    client = service.openai("replace")
    messages: Any = [{"role": "user", "content": "DIVERGE"}]
    whole = client.chat.completions.create(model="main", messages=messages)
    assert (whole.id, whole.model, whole.choices[0].finish_reason) == ("c-1", "served", "stop")
    assert whole.choices[0].message.content == REFERENCE
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (7, 13)
    assert whole.usage.model_extra == {"billed_model": "ref"}
    chunks = list(
        client.chat.completions.create(
            model="main", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    assert {chunk.id for chunk in chunks} == {"c-1"}
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == REFERENCE
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, None, "stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 20
    response = client.responses.create(model="main", input="DIVERGE")
    assert (response.id, response.output_text) == ("resp_1", REFERENCE)
    with client.responses.stream(model="main", input="DIVERGE") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == REFERENCE
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    for streamed in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model="main", messages=[{"role": "user", "content": GIBBERISH}], stream=streamed
            )
        assert refused.value.code == "content_policy_violation"


def test_flag_and_dry_run_change_nothing_and_count(service: Service) -> None:
    for name, result in (("flag", "flagged"), ("dry", "would_block")):
        labels = {"phase": "response", "check": "divergence", "result": result}
        before = service.metric("decisions", **labels)
        for stream in (False, True):
            response = service.post(name, "chat", "DIVERGE", stream=stream)
            assert texts_of("chat", response).rstrip() == STRANGE
            assert len(response.headers["x-sif-gateway-audit-id"]) == 32
        wait_for(lambda before=before, labels=labels: service.metric("decisions", **labels) == before + 2)
        assert service.post(name, "chat", GIBBERISH).status_code == 200


def test_what_is_not_held_back_comes_as_it_is_made_and_is_judged_afterwards(service: Service) -> None:
    labels = {"phase": "response", "check": "divergence", "result": "flagged"}
    before = service.metric("decisions", **labels)
    started = time.monotonic()
    body = {"model": "main", "stream": True, "messages": [{"role": "user", "content": "DIVERGE REFSLOW"}]}
    with service.client.stream("POST", f"{service.url}/late/v1/chat/completions", json=body) as response:
        assert response.read()
    assert time.monotonic() - started < 1.5, "a slow reference must not hold up what is not held back"
    assert service.metric("decisions", **labels) == before
    failures = {"check": "divergence", "kind": "reference_timeout"}
    known = service.metric("check_failures", **failures)
    wait_for(lambda: service.metric("check_failures", **failures) == known + 1)


def test_gibberish_under_replace_is_answered_by_the_reference(service: Service) -> None:
    for stream in (False, True):
        assert texts_of("chat", service.post("replace-all", "chat", GIBBERISH, stream=stream)) == REFERENCE


def test_nothing_is_disclosed_where_the_settings_say_so(service: Service) -> None:
    response = service.post("quiet", "chat", "DIVERGE")
    assert texts_of("chat", response) == REFERENCE
    assert not [name for name in response.headers if name.startswith("x-sif")]
    assert "billed_model" not in response.text


def test_a_failing_reference_passes_or_blocks_as_the_settings_say(service: Service) -> None:
    for stream in (False, True):
        opened = service.post("replace", "chat", "DIVERGE REFDOWN", stream=stream)
        assert texts_of("chat", opened).rstrip() == STRANGE
        assert service.post("closed", "chat", "DIVERGE REFDOWN", stream=stream).status_code == 400


def test_an_answer_that_cannot_be_read_is_a_failure(service: Service) -> None:
    labels = {"check": "divergence", "kind": "unread_answer"}
    for said in ("PLAIN DIVERGE", "LARGE DIVERGE"):
        for stream in (False, True):
            before = service.metric("check_failures", **labels)
            opened = service.post("replace", "chat", said, stream=stream)
            assert opened.status_code == 200
            assert "Vienna" in opened.text
            assert service.metric("check_failures", **labels) == before + 1
            assert service.post("closed", "chat", said, stream=stream).status_code == 400


def test_errors_of_the_application_pass_and_stop_the_reference(service: Service) -> None:
    cancelled = service.reference.cancelled
    for name in ("replace", "flag"):
        response = service.post(name, "chat", "SLOW BROKEN REFSLOW")
        assert (response.status_code, response.json()) == (503, {"error": {"message": "no memory"}})
    wait_for(lambda: service.reference.cancelled == cancelled + 2)


def test_a_stream_that_the_application_cuts_off_is_not_let_out_half(service: Service) -> None:
    cancelled = service.reference.cancelled
    held = service.post("replace", "chat", "SLOW CUT DIVERGE REFSLOW", stream=True)
    assert held.status_code == 500
    assert "The conference" not in held.text
    turn = {"role": "user", "content": "SLOW CUT DIVERGE REFSLOW"}
    body = {"model": "main", "stream": True, "messages": [turn]}
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):  # on a connection of its own
        httpx.post(f"{service.url}/flag/v1/chat/completions", json=body, timeout=60)
    wait_for(lambda: service.reference.cancelled == cancelled + 2)


@pytest.mark.parametrize("name", ["replace", "flag"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_the_reference_call(service: Service, name: str, stream: bool) -> None:
    cancelled, asked = service.reference.cancelled, len(service.reference.asked)
    body = {"model": "main", "stream": stream, "messages": [{"role": "user", "content": "SLOW REFSLOW"}]}
    with pytest.raises(httpx.ReadTimeout):
        service.client.post(f"{service.url}/{name}/v1/chat/completions", json=body, timeout=0.3)
    wait_for(lambda: service.reference.cancelled == cancelled + 1)
    assert len(service.reference.asked) == asked + 1


def test_many_calls_at_once_keep_their_own_states(service: Service) -> None:
    def ask(number: int) -> str:
        bad = number % 3 == 0
        text = f"{GIBBERISH if bad else 'ECHO'} {number}"
        return texts_of("chat", service.post("replace-all", "chat", text, stream=number % 2 == 0)).strip()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(60)))
    expected = [REFERENCE if n % 3 == 0 else f"The dog says ECHO {n}" for n in range(60)]
    assert answers == expected


def test_a_slow_client_does_not_hold_up_others(service: Service) -> None:
    def slowly() -> Iterator[bytes]:
        body = json.dumps({"model": "main", "messages": [{"role": "user", "content": "ECHO slowly"}]})
        for byte in body.encode():
            time.sleep(0.01)
            yield bytes([byte])

    with ThreadPoolExecutor(1) as pool:
        path = f"{service.url}/replace/v1/chat/completions"
        slow = pool.submit(service.client.post, path, content=slowly())
        assert (
            texts_of("chat", service.post("replace", "chat", "ECHO quickly")) == "The dog says ECHO quickly"
        )
        assert not slow.done()
        assert texts_of("chat", slow.result()) == "The dog says ECHO slowly"


DEEP = b'{"model": "main", "messages": ' + b"[" * 40_000 + b"]" * 40_000 + b"}"
TWICE = b'{"model": "main", "messages": [], "messages": [{"role": "user", "content": "hi"}]}'


@pytest.mark.parametrize("route", list(ROUTES))
@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not valid JSON"),
        (b"\xff\xfe\x00", 400, "not valid JSON"),
        (b"[1, 2]", 400, "not a JSON object"),
        (DEEP, 400, "JSON"),
        (TWICE, 400, "not valid JSON"),
        (b'{"a": ' + b"1" * 5_000 + b"}", 400, "not valid JSON"),
        (b'{"a": "' + b"x" * 100_000 + b'"}', 413, "larger than 100000 bytes"),
    ],
    ids=["cut", "bytes", "list", "deep", "twice", "number", "large"],
)
def test_a_body_that_cannot_be_read_is_refused(
    service: Service, route: str, body: bytes, status: int, said: str
) -> None:
    asked = service.answers.asked.total()
    response = service.client.post(f"{service.url}/replace/v1/{ROUTES[route]}", content=body)
    assert response.status_code == status
    assert said in response.json()["error"]["message"]
    assert service.answers.asked.total() == asked


def test_a_compressed_body_and_an_endless_one_are_refused(service: Service) -> None:
    path = f"{service.url}/replace/v1/chat/completions"
    bomb = gzip.compress(b" " * 10_000_000)
    assert service.client.post(path, content=bomb, headers={"content-encoding": "gzip"}).status_code == 415
    endless = (b" " * 10_000 for _ in range(1_000))
    assert service.client.post(path, content=endless).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        {"model": 7, "messages": "text"},
        {"model": None, "messages": [1, None, {"role": ["user"], "content": {"a": 1}}]},
        {"messages": [{"role": "user", "content": [1, {"type": "text", "text": 5}, {"type": "image_url"}]}]},
        {"input": [{"type": "message", "role": 5, "content": 7}, {"type": "function_call_output"}]},
        {"input": 5, "instructions": [], "prompt": {"id": "p"}},
        {"system": [{"type": "text"}], "messages": [{"role": "user", "content": [{"type": "image"}]}]},
        {"prompt": [[1, 2], [3]], "stream_options": 7, "max_tokens": "many"},
    ],
)
def test_wrong_types_reach_the_application_and_break_nothing(service: Service, body: dict[str, Any]) -> None:
    for route in (*ROUTES.values(), "embeddings", "completions"):
        for name in ("replace", "flag"):
            response = service.client.post(f"{service.url}/{name}/v1/{route}", json=body)
            assert response.status_code == 200, (route, response.text)


def test_embeddings_and_completions_are_screened_and_token_ids_are_a_finding(service: Service) -> None:
    unscorable = {"phase": "request", "check": "perplexity", "result": "flagged"}
    for route in ("embeddings", "completions"):
        assert service.post("block", route, "What is it?").status_code == 200
        assert service.post("block", route, [GIBBERISH, "and more"]).status_code == 400
        before = service.metric("decisions", **unscorable)
        assert service.post("block", route, [1, 2, 3]).status_code == 200
        assert service.post("block", route, [[1, 2], [3]]).status_code == 200
        assert service.metric("decisions", **unscorable) == before + 2


def test_the_reference_gets_the_same_question_on_every_route(service: Service) -> None:
    pixel = "iVBORw0KGgo="
    url = f"data:image/png;base64,{pixel}"
    source = {"type": "base64", "media_type": "image/png", "data": pixel}
    asked = {
        "chat": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}],
        "responses": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What?"},
                    {"type": "input_image", "image_url": url},
                ],
            }
        ],
        "messages": [{"type": "text", "text": "What?"}, {"type": "image", "source": source}],
    }
    for route, content in asked.items():
        service.post("replace", route, content, temperature=0.25)
        call = service.reference.asked[-1]
        assert call["messages"] == [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": url}},
                ],
            }
        ]
        assert call["temperature"] == 0.25


def test_gibberish_in_any_place_of_a_query_is_seen(service: Service) -> None:
    blocks = [{"type": "text", "text": GIBBERISH}]
    parts = [{"type": "input_text", "text": GIBBERISH}]
    path = f"{service.url}/block/v1"
    for route, body in (
        ("chat/completions", {"messages": [{"role": "developer", "content": GIBBERISH}]}),
        ("responses", {"input": "hi", "instructions": GIBBERISH}),
        ("responses", {"input": [{"role": "user", "content": parts}], "previous_response_id": "resp_0"}),
        ("messages", {"system": blocks, "messages": [{"role": "user", "content": "hi"}]}),
        ("messages", {"messages": [{"role": "user", "content": blocks}]}),
        ("completions", {"prompt": "hi", "suffix": GIBBERISH}),
    ):
        response = service.client.post(f"{path}/{route}", json={"model": "main", **body})
        assert response.status_code == 400, route


def test_a_conversation_that_the_application_alone_knows_is_not_compared(service: Service) -> None:
    asked = len(service.reference.asked)
    response = service.post("replace", "responses", "DIVERGE", previous_response_id="resp_0")
    assert texts_of("responses", response) == STRANGE
    assert len(service.reference.asked) == asked


def test_tools_are_never_replaced(service: Service) -> None:
    response = service.post("replace", "chat", "DIVERGE", tools=[{"type": "function"}])
    assert texts_of("chat", response) == STRANGE


def test_who_asks_decides_by_the_operators_own_word(service: Service) -> None:
    assert service.post("teams", "chat", "DIVERGE", headers={"x-team": "other"}).status_code == 200
    assert service.post("teams", "chat", "DIVERGE", headers={"x-team": "strict"}).status_code == 400


def test_other_paths_and_methods_pass_untouched(service: Service) -> None:
    assert service.client.get(f"{service.url}/replace/v1/chat/completions").status_code == 405
    assert service.client.post(f"{service.url}/replace/v1/other", content=b"{").status_code == 404


def wait_for(condition: Any, *, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
