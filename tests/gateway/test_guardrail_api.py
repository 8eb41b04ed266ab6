"""The service behind LiteLLM's Generic Guardrail API, by itself."""

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from fastapi.testclient import TestClient

from gateway_plugin.config import GatewayConfigError
from gateway_plugin.endpoints import MARK_HEADER, Endpoint
from gateway_plugin.guardrail_api import PATH, create_app, serve
from gateway_plugin.guardrail_calls import MAX_WAITING, GuardrailCalls, digest_of
from gateway_plugin.screening.base import Finding
from gateway_plugin.service_config import ServiceConfiguration, ServiceSettings, read_service_configuration
from gateway_plugin.wire.bodies import parse_object
from tests.gateway.upstream import HONEST, LIKE_HONEST, completion
from tests.gateway.words import GIBBERISH, QUESTION, WordScreener, metric, words

ROOT = Path(__file__).parents[2]
UNRELATED = "The International Conference"
KEYS = ("one-key-of-many-bytes", "two-key-of-many-bytes")


def configured(upstream_url: str = "http://127.0.0.1:9/v1", **more: Any) -> ServiceConfiguration:
    service = more.pop("service", {})
    document = {
        "gateway_plugin": {"reference_model": "reference", "action": "replace", **more},
        "models": {"reference": {"model": "openai/ref", "api_base": upstream_url}},
        "service": {"api_keys": ["os.environ/SIF_TEST_ONE", "os.environ/SIF_TEST_TWO"], **service},
    }
    return read_service_configuration(yaml.safe_dump(document), name="test.yaml")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in zip(("ONE", "TWO"), KEYS, strict=True):
        monkeypatch.setenv(f"SIF_TEST_{name}", key)


@pytest.fixture
def client(upstream: Any) -> Iterator[TestClient]:
    with TestClient(create_app(configured(upstream.url), screeners=words)) as made:
        yield made


def ask(client: Any, phase: str, *texts: str, call: str | None = "c", key: str = KEYS[0], **more: Any) -> Any:
    body: dict[str, Any] = {
        "input_type": phase,
        "litellm_call_id": call,
        "texts": list(texts),
        "request_data": {"user_api_key_hash": "hash"},
        "model": "main",
        "request_headers": {"Host": "proxy"},
        "additional_provider_specific_params": {},
        "images": None,
        "tools": None,
        "tool_calls": None,
        "structured_messages": None,
    }
    if phase == "request":
        body["structured_messages"] = [{"role": "user", "content": text} for text in texts]
    return client.post(PATH, json={**body, **more}, headers={"x-api-key": key})


def test_two_phases_of_a_call_belong_together(client: TestClient) -> None:
    assert ask(client, "request", QUESTION).json() == {"action": "NONE"}
    assert ask(client, "response", HONEST).json() == {"action": "NONE"}
    assert ask(client, "request", QUESTION).json() == {"action": "NONE"}
    reply = ask(client, "response", UNRELATED).json()
    assert (reply["action"], reply["texts"]) == ("GUARDRAIL_INTERVENED", [LIKE_HONEST])
    assert len(reply["audit_id"]) == 32
    assert ask(client, "response", UNRELATED).json() == reply, "asked twice about one answer"


def test_a_block_says_why_and_nothing_of_the_query(upstream: Any) -> None:
    with TestClient(create_app(configured(upstream.url, action="block"), screeners=words)) as client:
        reply = ask(client, "request", GIBBERISH)
        assert reply.json()["action"] == "BLOCKED"
        assert (
            reply.json()["blocked_reason"] == "The query was refused by the gateway's screening (perplexity)."
        )
        assert GIBBERISH not in reply.text
        assert ask(client, "request", QUESTION).json() == {"action": "NONE"}
        late = ask(client, "response", UNRELATED).json()
        assert (late["action"], late["blocked_reason"][:10]) == ("BLOCKED", "The answer")


def test_gibberish_under_replace_waits_for_the_answer(client: TestClient) -> None:
    assert ask(client, "request", GIBBERISH).json() == {"action": "NONE"}
    assert ask(client, "response", HONEST).json()["texts"] == [LIKE_HONEST]


def test_gibberish_without_a_call_id_cannot_wait_and_is_flagged_or_blocked(upstream: Any) -> None:
    for on_failure, action in (("open", "NONE"), ("closed", "BLOCKED")):
        made = configured(upstream.url, checks={"perplexity": {"on_failure": on_failure}})
        with TestClient(create_app(made, screeners=words)) as client:
            assert ask(client, "request", GIBBERISH, call=None).json()["action"] == action
            labels = {"check": "perplexity", "kind": "not_replaceable"}
            assert metric(client, "sif_gateway_check_failures_total", **labels) == 1


def test_an_id_cannot_be_used_to_swap_the_states_of_two_calls(client: TestClient) -> None:
    """A client may choose its call ids: a second query must not take a replacement that waits."""
    assert ask(client, "request", GIBBERISH).json() == {"action": "NONE"}
    swapped = ask(client, "request", QUESTION).json()
    assert (swapped["action"], swapped["blocked_reason"][:19]) == ("BLOCKED", "This call id is in ")
    assert metric(client, "sif_gateway_check_failures_total", check="call_id", kind="in_use") == 1
    # The same query again, as a retry sends it: each of its answers is replaced.
    assert ask(client, "request", GIBBERISH).json() == {"action": "NONE"}
    assert [ask(client, "response", HONEST).json()["action"] for _ in range(2)] == [
        "GUARDRAIL_INTERVENED"
    ] * 2
    assert ask(client, "request", QUESTION).json() == {"action": "NONE"}
    assert ask(client, "response", HONEST).json() == {"action": "NONE"}


def test_one_query_cannot_wait_under_one_id_without_bound(client: TestClient) -> None:
    said = [ask(client, "request", GIBBERISH).json()["action"] for _ in range(MAX_WAITING + 3)]
    assert said == ["NONE"] * MAX_WAITING + ["BLOCKED"] * 3
    for _ in range(MAX_WAITING):
        assert ask(client, "response", HONEST).json()["action"] == "GUARDRAIL_INTERVENED"
    assert ask(client, "request", GIBBERISH).json() == {"action": "NONE"}


def test_ids_that_nobody_waits_under_make_room_first() -> None:
    calls = GuardrailCalls(max_calls=3, ttl_s=60.0)
    waits = calls.open("waits", query=b"q", model="m", tools=False)
    for name in "abcdef":
        calls.close(name, calls.open(name, query=b"q", model="m", tools=False))
    known = calls.find("waits")
    assert known is not None
    assert (known.waiting, len(calls)) == ([waits], 3)


def test_an_id_is_free_again_after_a_fault_of_ours(client: TestClient) -> None:
    assert ask(client, "request", "EXPLODE").status_code == 500
    assert ask(client, "request", QUESTION).json() == {"action": "NONE"}


def test_nobody_reaches_the_calls_of_others(client: TestClient) -> None:
    ask(client, "request", GIBBERISH)
    other = {"request_data": {"user_api_key_hash": "other"}}
    assert ask(client, "response", HONEST, **other).json() == {"action": "NONE"}
    assert ask(client, "response", HONEST, key=KEYS[1]).json() == {"action": "NONE"}
    assert ask(client, "request", QUESTION, **other).json() == {"action": "NONE"}
    assert ask(client, "response", HONEST).json()["action"] == "GUARDRAIL_INTERVENED"


def test_an_answer_to_an_unknown_call_is_a_failure_of_its_checks(upstream: Any) -> None:
    closed = configured(upstream.url, checks={"divergence": {"on_failure": "closed"}})
    with TestClient(create_app(closed, screeners=words)) as client:
        for call in ("never-seen", None):
            assert ask(client, "response", HONEST, call=call).json()["action"] == "BLOCKED"
        labels = {"check": "divergence", "kind": "unknown_call"}
        assert metric(client, "sif_gateway_check_failures_total", **labels) == 2


def test_a_dry_run_does_nothing(upstream: Any) -> None:
    with TestClient(create_app(configured(upstream.url, dry_run=True), screeners=words)) as client:
        for text in (GIBBERISH, QUESTION):
            assert ask(client, "request", text).json() == {"action": "NONE"}
        assert ask(client, "response", UNRELATED).json() == {"action": "NONE"}
        screened = {"phase": "request", "check": "perplexity"}
        assert metric(client, "sif_gateway_decisions_total", **screened) == 2
        assert metric(client, "sif_gateway_decisions_total", result="would_replace") > 0


def test_tools_and_several_choices_are_never_replaced(client: TestClient) -> None:
    ask(client, "request", QUESTION, tools=[{"type": "function"}])
    assert ask(client, "response", UNRELATED).json() == {"action": "NONE"}
    ask(client, "request", QUESTION)
    assert ask(client, "response", UNRELATED, HONEST).json() == {"action": "NONE"}
    ask(client, "request", QUESTION)
    assert ask(client, "response", UNRELATED, tool_calls=[{"id": "1"}]).json() == {"action": "NONE"}


def test_many_calls_at_once_keep_their_own_states(client: TestClient) -> None:
    def one(number: int) -> str:
        text = GIBBERISH if number % 2 else QUESTION
        assert ask(client, "request", text, call=str(number)).json() == {"action": "NONE"}
        return str(ask(client, "response", HONEST, call=str(number)).json()["action"])

    with ThreadPoolExecutor(8) as pool:
        actions = list(pool.map(one, range(40)))
    assert actions == ["NONE", "GUARDRAIL_INTERVENED"] * 20


@pytest.mark.parametrize("key", ["", "wrong", KEYS[0][:-1], KEYS[0] + "x", "ключ"])
def test_without_a_good_key_nothing_is_said(client: TestClient, key: str) -> None:
    response = client.post(PATH, content=b"{", headers={b"x-api-key": key.encode()})
    assert (response.status_code, response.json()) == (401, {"error": "x-api-key is missing or unknown"})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"input_type": "sideways"}', 400),
        (b'{"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", 400),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", 400),
        (b'{"a": "' + b"x" * 70_000 + b'"}', 413),
        (b'{"input_type": "request", "texts": "x", "structured_messages": 5, "request_data": 7}', 200),
        (b'{"input_type": "response", "texts": [1, null], "request_headers": [1], "model": {}}', 200),
        (b'{"input_type": "request", "texts": ["\\ud800"], "litellm_call_id": [1], "tools": "x"}', 200),
        (b'{"input_type": "request", "structured_messages": [1, {"role": {}, "content": [[]]}]}', 200),
    ],
)
def test_no_body_breaks_the_service(body: bytes, status: int) -> None:
    small = configured(service={"max_body_bytes": 65_536})
    with TestClient(create_app(small, screeners=words)) as client:
        response = client.post(PATH, content=body, headers={"x-api-key": KEYS[1]})
        assert response.status_code == status, response.text


def test_a_fault_of_ours_is_told_without_a_word_of_the_query(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        response = ask(client, "request", "EXPLODE secret words")
    assert (response.status_code, response.json()) == (500, {"error": "internal error"})
    assert "guardrail call failed with RuntimeError" in caplog.text
    assert "secret words" not in caplog.text


def test_a_large_call_is_read_off_the_event_loop(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    worked: set[tuple[str, int]] = set()

    def noting(name: str, work: Any) -> Any:
        def noted(value: Any) -> Any:
            if len(str(value)) > 100_000:
                worked.add((name, threading.get_ident()))
            return work(value)

        return noted

    monkeypatch.setattr("gateway_plugin.guardrail_service.parse_object", noting("parse", parse_object))
    monkeypatch.setattr("gateway_plugin.guardrail_service.digest_of", noting("digest", digest_of))
    loops: set[int] = set()

    async def compare(self: Any, answers: Sequence[str], reference: str) -> list[Finding]:
        loops.add(threading.get_ident())
        return []

    monkeypatch.setattr(WordScreener, "compare", compare)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}
    turn = {"role": "user", "content": [{"type": "text", "text": QUESTION}, picture]}
    assert ask(client, "request", structured_messages=[turn]).json() == {"action": "NONE"}
    assert ask(client, "response", HONEST + " " * 200_000).json() == {"action": "NONE"}
    assert {name for name, _ in worked} == {"parse", "digest"}
    assert loops
    assert not {thread for _, thread in worked} & loops


def test_more_calls_than_allowed_are_sent_away(upstream: Any) -> None:
    one = configured(upstream.url, service={"max_calls_at_once": 1})
    with TestClient(create_app(one, screeners=words)) as client, ThreadPoolExecutor(2) as pool:
        slow = pool.submit(ask, client, "request", "SLEEP", call="slow")
        deadline = time.monotonic() + 20
        while client.get("/readyz").status_code == 200:
            assert time.monotonic() < deadline
        assert client.get("/healthz").status_code == 200
        refused = ask(client, "request", QUESTION)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert slow.result().status_code == 200
        assert client.get("/readyz").json() == {"status": "ready"}


class Listener(BaseHTTPRequestHandler):
    """An endpoint that keeps the headers of what it is asked."""

    seen: ClassVar[list[dict[str, str]]] = []

    def do_POST(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(completion("ref", LIKE_HONEST)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


def test_calls_of_its_own_are_recognised_by_their_mark_alone() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        document = {
            "gateway_plugin": {"reference_model": "reference", "action": "block"},
            "models": {
                "reference": {
                    "model": "openai/ref",
                    "api_base": f"http://127.0.0.1:{server.server_port}/v1",
                    "behind_this_guardrail": True,
                }
            },
            "service": {"api_keys": ["os.environ/SIF_TEST_ONE"]},
        }
        marked = read_service_configuration(yaml.safe_dump(document), name="t")
        with TestClient(create_app(marked, screeners=words)) as client:
            ask(client, "request", QUESTION)
            assert ask(client, "response", HONEST).json() == {"action": "NONE"}
            mark = Listener.seen[-1][MARK_HEADER]
            for value, action in ((mark, "NONE"), ("[present]", "BLOCKED"), (mark[:-1], "BLOCKED")):
                reply = ask(client, "request", GIBBERISH, request_headers={MARK_HEADER.title(): value})
                assert reply.json()["action"] == action
        server.shutdown()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("a: b\ngateway_plugin: }", "t.yaml, line 2: not valid YAML"),
        ("5", "t.yaml: not a mapping of settings"),
        ("{}", "t.yaml: litellm_params has no gateway_plugin: section"),
        ("gateway_plugin: {reference_model: r, actoin: flag}", "t.yaml: gateway_plugin.actoin: Extra inputs"),
        ("gateway_plugin: {reference_model: r}", "gateway_plugin.reference_model: 'r' is not in models"),
        (
            "{gateway_plugin: {reference_model: r}, models: {r: {model: m}}}",
            "t.yaml: models.r.api_base: Field required",
        ),
        (
            "{gateway_plugin: {reference_model: r}, models: {r: {model: m, api_base: b}}, servce: {}}",
            "t.yaml: servce: Extra inputs are not permitted",
        ),
        (
            "{gateway_plugin: {reference_model: r}, models: {r: {model: m, api_base: b}},"
            " service: {api_keys: [secret-itself]}}",
            "t.yaml: service.api_keys: write a key as os.environ/NAME",
        ),
        (
            "{gateway_plugin: {reference_model: r}, models: {r: {model: m, api_base: b}},"
            " service: {api_keys: []}}",
            "t.yaml: service.api_keys: name at least one key",
        ),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_setting(document: str, said: str) -> None:
    with pytest.raises(GatewayConfigError) as error:
        read_service_configuration(document, name="t.yaml")
    assert said in str(error.value)
    assert "secret-itself" not in str(error.value)
    assert "\n" not in str(error.value)


def test_the_shipped_file_is_good() -> None:
    shipped = read_service_configuration((ROOT / "deploy" / "gateway-api.yaml").read_text(), name="shipped")
    assert shipped.endpoints.keys() == {"reference"}


def test_every_setting_of_the_service_is_documented() -> None:
    page = (ROOT / "docs" / "gateway-adapters.md").read_text()
    for model in (ServiceSettings, Endpoint):
        for name in model.model_fields:
            assert f"`{name}`" in page or f".{name}`" in page, name


def test_no_service_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIF_TEST_TWO", "short")
    with pytest.raises(GatewayConfigError, match=r"service.api_keys: a key has at least 16 bytes"):
        create_app(configured(), screeners=words)
    monkeypatch.delenv("SIF_TEST_TWO")
    with pytest.raises(GatewayConfigError, match="environment variable SIF_TEST_TWO is not set"):
        create_app(configured(), screeners=words)
    for host in ("0.0.0.0", "192.168.1.5", "gateway.internal", "::"):
        with pytest.raises(GatewayConfigError, match="may listen on loopback only"):
            serve(tmp_path / "none.yaml", host=host, unauthenticated=True)
    with pytest.raises(GatewayConfigError, match=r"none.yaml: cannot be read"):
        serve(tmp_path / "none.yaml", unauthenticated=True)
    with TestClient(create_app(configured(), unauthenticated=True, screeners=words)) as client:
        assert ask(client, "request", QUESTION, key="").json() == {"action": "NONE"}
