"""MetaV targets on the wire: one POST a query, numbers back, and a name for everything else."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from probes.config import ConfigError
from probes.config.metav_target import MetaVTargetConfig
from probes.targets import Answer, AskFailure
from probes.targets.metav import MetaVTarget, classify_output, make_metav_target, output_of
from probes.testing.metav_endpoint import MetaVEndpoint, MetaVFault
from sif_offline.fingerprint.metav.pack import Query
from sif_offline.fingerprint.metav.views import seen_through

KEY = "key-very-secret-123"
QUERY = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 2, 2)
DIGITS = tuple("0123456789")


def model(query: Query) -> Sequence[float]:
    """Ten probabilities that depend on every value of an array, or on the text."""
    values = np.asarray([ord(letter) for letter in query] if isinstance(query, str) else query, np.float64)
    logits = np.cos(values.sum() * np.arange(1, 11))
    found: list[float] = (np.exp(logits) / np.exp(logits).sum()).tolist()
    return found


PROTOCOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "kserve": ("", {"kind": "kserve", "input": "x"}),
    "kserve, version": ("", {"kind": "kserve", "input": "x", "output": "output", "version": 3}),
    "kserve-v1": ("/", {"kind": "kserve-v1"}),
    "embeddings": ("/v1", {"kind": "embeddings"}),
    "array": ("/array", {"kind": "json", "output_at": "predictions.0"}),
    "mapping": ("/mapping", {"kind": "json", "labels": DIGITS}),
    "scored": ("/scored", {"kind": "json", "labels": DIGITS}),
}


def target(root: str, spoken: str = "array", *, key: str | None = None, **options: Any) -> MetaVTarget:
    """As a configuration makes it."""
    path, settings = PROTOCOLS[spoken]
    fields = {"kind": "metav", "name": "suspect", "model": "digits", "url": root + path, "timeout": 5.0}
    fields |= {"protocol": settings, "authorised_by": "the test", "purpose": "a test"}
    if key is not None:
        fields["api_key_env"] = key
    return make_metav_target(MetaVTargetConfig.model_validate(fields | options))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_gives_the_numbers_of_the_model(protocol: str) -> None:
    query: Query = "a text" if protocol == "embeddings" else QUERY
    with MetaVEndpoint(model) as endpoint:
        answer = target(endpoint.root, protocol).ask(query)
        (question,) = endpoint.questions
    if isinstance(query, str):
        assert question.query == query
    else:
        assert isinstance(question.query, np.ndarray)
        assert question.query.tobytes() == query.tobytes()
        assert question.query.shape == query.shape
    assert output_of(answer) == list(model(query))
    assert json.loads(answer.text) == output_of(answer)
    assert classify_output(answer, size=10) == "answer"
    assert (answer.finish_reason, answer.completion_tokens, answer.cost_usd) == ("stop", None, None)
    assert answer.latency_s > 0
    assert json.loads(json.dumps(answer.raw)) == answer.raw


def test_what_a_server_says_of_itself_is_kept() -> None:
    with MetaVEndpoint(model, model="resnet") as endpoint:
        assert target(endpoint.root, "kserve").ask(QUERY).served_model == "resnet:1"
        answer = target(endpoint.root, "embeddings").ask("a text")
    assert (answer.served_model, answer.prompt_tokens) == ("resnet", 5)


def test_base64_that_was_not_asked_for_is_read() -> None:
    with MetaVEndpoint(model, packed=True) as endpoint:
        answer = target(endpoint.root, "embeddings").ask("a text")
    assert output_of(answer) == np.asarray(model("a text"), np.float32).tolist()


def test_the_scripted_endpoint_is_one_to_openais_own_client() -> None:
    from openai import OpenAI

    with MetaVEndpoint(model) as endpoint:
        with OpenAI(base_url=f"{endpoint.root}/v1", api_key="none", max_retries=0) as client:
            packed = client.embeddings.create(model="m", input=["a text"]).data[0].embedding
            plain = client.embeddings.create(model="m", input=["a text"], encoding_format="float")
        assert [q.body["encoding_format"] for q in endpoint.questions] == ["base64", "float"]
        ours = target(endpoint.root, "embeddings").ask("a text")
    assert packed == np.asarray(model("a text"), np.float32).tolist()
    assert plain.data[0].embedding == output_of(ours)


def test_an_embedding_of_8192_numbers_fits() -> None:
    wide = np.random.default_rng(0).normal(size=8192).tolist()
    with MetaVEndpoint(lambda query: wide) as endpoint:
        assert output_of(target(endpoint.root, "embeddings").ask("a text")) == wide


@pytest.mark.parametrize(
    ("path", "view"),
    [("/mapping", "top-3"), ("/scored", "top-3"), ("/label", "label"), ("/scored", "label")],
)
def test_an_api_that_names_a_few_labels_is_read_by_its_view(path: str, view: str) -> None:
    """What the scorer makes of the API's outputs is what it makes of the model's own."""
    protocol = {"kind": "json", "labels": DIGITS}
    with MetaVEndpoint(model, top=3) as endpoint:
        suspect = target(endpoint.root, url=endpoint.root + path, protocol=protocol, view=view)
        found = seen_through(output_of(suspect.ask(QUERY)), view)
        full = target(endpoint.root, url=endpoint.root + path, protocol=protocol)
        with pytest.raises(AskFailure, match="view") as caught:
            full.ask(QUERY)
    assert (found == seen_through(model(QUERY), view)).all()
    assert caught.value.kind == "not_output"


def test_an_api_that_rounds_is_read_as_it_is() -> None:
    with MetaVEndpoint(lambda query: [round(number, 2) for number in model(query)]) as endpoint:
        answer = target(endpoint.root, "kserve", view="rounded-2").ask(QUERY)
    assert (np.asarray(output_of(answer)) == seen_through(model(QUERY), "rounded-2")).all()


def test_another_size_is_a_finding_and_no_failure() -> None:
    with MetaVEndpoint(model, faults=["wrong_size"]) as endpoint:
        answer = target(endpoint.root, "kserve").ask(QUERY)
    assert classify_output(answer, size=10) == "wrong_size"
    assert classify_output(answer, size=9) == "answer"


FAULTS: list[tuple[MetaVFault, str, bool, str]] = [
    ("rate_limited", "rate_limited", False, "answered HTTP 429: slow down"),
    ("http_500", "http", True, "answered HTTP 500: internal"),
    ("unauthorized", "auth", False, "answered HTTP 401: bad key"),
    ("hang", "timeout", True, "did not answer within 0.5 s"),
    ("drip", "timeout", True, "did not answer within 0.5 s"),
    ("reset", "interrupted", True, "the connection was cut before the answer was complete"),
    ("html", "not_json", True, "answered HTML instead of JSON"),
    ("invalid_json", "not_json", True, "answered invalid JSON"),
    ("huge", "too_large", True, "answered more than 4,194,304 bytes"),
    ("compressed", "too_large", True, "answered compressed, though not asked to"),
    ("redirect", "redirect", False, "redirects to another address, which is never followed"),
    ("not_output", "not_output", True, "answered JSON with no output: no 'outputs'"),
    ("nan", "not_output", True, "answered a number that is not finite"),
    ("strings", "not_output", True, "answered JSON with no output: a text in place of a number"),
    (
        "wrong_shape",
        "not_output",
        True,
        "answered JSON with no output: lists of different lengths in place of an array",
    ),
]


@pytest.mark.parametrize(("fault", "kind", "in_doubt", "said"), FAULTS, ids=[row[0] for row in FAULTS])
def test_a_fault_has_a_name_and_is_sent_once(fault: MetaVFault, kind: str, in_doubt: bool, said: str) -> None:
    timeout = 0.5 if kind == "timeout" else 20
    with MetaVEndpoint(lambda query: [0.75, 0.25], faults=[fault], retry_after="7", hang_s=5) as endpoint:
        with pytest.raises(AskFailure) as caught:
            target(endpoint.root, "kserve", timeout=timeout).ask(QUERY)
        assert len(endpoint.questions) == 1, "somebody below us retried, or followed"
        assert str(caught.value) == f"suspect: {said} ({endpoint.root})"
    assert (caught.value.kind, caught.value.in_doubt) == (kind, in_doubt)
    assert caught.value.retry_after_s == (7 if fault == "rate_limited" else None)
    assert caught.value.may_retry == (fault == "rate_limited")


def test_what_a_server_turns_down_is_said_in_its_words() -> None:
    with MetaVEndpoint(model) as endpoint, pytest.raises(AskFailure) as caught:
        target(endpoint.root, "embeddings", url=f"{endpoint.root}/v2").ask("a text")
    assert "answered HTTP 400: no query where this protocol has it" in str(caught.value)
    assert (caught.value.kind, caught.value.in_doubt, caught.value.status) == ("http", False, 400)


def test_a_query_that_a_server_quotes_is_not_said() -> None:
    def quotes(query: Query) -> Sequence[float]:
        raise ValueError(f"{query!r} is too long")

    with MetaVEndpoint(quotes) as endpoint, pytest.raises(AskFailure) as caught:
        target(endpoint.root, "embeddings").ask("amber brook cedar")
    assert "'***' is too long" in str(caught.value)


def test_a_query_of_another_kind_is_not_sent() -> None:
    with MetaVEndpoint(model) as endpoint:
        with pytest.raises(AskFailure, match="sent nothing: kserve asks arrays") as caught:
            target(endpoint.root, "kserve").ask("a text")
        assert endpoint.questions == []
    assert (caught.value.kind, caught.value.in_doubt) == ("misconfigured", False)


def test_nobody_there_is_told_from_somebody_who_may_have_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", f"http://{'a' * 70}.invalid"):
        with pytest.raises(AskFailure, match="cannot be reached") as caught:
            target(url).ask(QUERY)
        assert caught.value.kind == "connection"
        assert caught.value.may_retry


Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture
def raw_server() -> Any:
    """Starts servers that answer a POST by a function of the handler; returns the root of one."""
    servers = []

    def start(respond: Respond) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                """Silent."""

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                respond(self)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_no_cookie_links_two_questions(raw_server: Any) -> None:
    seen: list[str | None] = []

    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers["Cookie"])
        body = b'{"predictions": [[1, 0]]}'
        handler.send_response(200)
        handler.send_header("Set-Cookie", "id=42; Path=/")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    suspect = target(raw_server(respond))
    assert [output_of(suspect.ask(QUERY)) for _ in range(2)] == [[1, 0], [1, 0]]
    assert seen == [None, None]


def test_headers_that_drip_end_with_the_question(raw_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read is within its timeout, and no body ever begins."""
    monkeypatch.setattr("probes.targets.metav.exchange.LATE_S", 0.5)
    over = threading.Event()

    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not over.wait(0.1):
            handler.wfile.write(b"a")
            handler.wfile.flush()

    began = time.monotonic()
    with pytest.raises(AskFailure) as caught:
        target(raw_server(respond), timeout=0.5).ask(QUERY)
    over.set()
    assert (caught.value.kind, caught.value.in_doubt) == ("timeout", True)
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xfe", "not_json"),
        (b"", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"9" * 10_000, "not_json"),
        (b'{"predictions": [[1e999, 0]]}', "not_output"),
        (b'{"predictions": [[-Infinity, 0]]}', "not_output"),
        (b'{"predictions": [[1, 0]], "loss": 1e999}', "not_output"),
        (b'{"predictions": [[1, 0]], "more": "' + b"x" * 2**20 + b'"}', "too_large"),
        # of few bytes, numbers whose canonical form is four times as long
        (b'{"predictions": [[' + b"1e20," * 100_000 + b"1]]}", "too_large"),
        (b'{"predictions": [[1, 0]], "more": ' + b"[" * 64 + b"]" * 64 + b"}", "not_output"),
    ],
)
def test_odd_bodies(raw_server: Any, body: bytes, kind: str) -> None:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with pytest.raises(AskFailure) as caught:
        target(raw_server(respond)).ask(QUERY)
    assert caught.value.kind == kind


EXTRA = {"X-Plain": "yes", "content-type": "application/x-own+json", "accept-encoding": "gzip"}


def test_credentials_go_where_they_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUSPECT_KEY", KEY)
    with MetaVEndpoint(model) as endpoint:
        target(endpoint.root, key="SUSPECT_KEY").ask(QUERY)
        own = target(endpoint.root, headers_env={"X-Api-Key": "SUSPECT_KEY"}, headers=EXTRA)
        own.ask(QUERY)
        bearer, header = (question.headers for question in endpoint.questions)
    assert bearer["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in header
    assert (header["x-api-key"], header["x-plain"]) == (KEY, "yes")
    assert (bearer["content-type"], header["content-type"]) == ("application/json", "application/x-own+json")
    assert header["accept-encoding"] == "identity"
    assert header["user-agent"].startswith("python-httpx/")
    assert KEY not in repr(own)


def test_a_secret_is_taken_out_before_a_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUSPECT_KEY", KEY)
    said = f"{'x' * 170} Bearer {KEY}"
    echo = MetaVEndpoint(model, faults=["echo"], echo=said)
    with echo, pytest.raises(AskFailure) as caught:
        target(echo.root, key="SUSPECT_KEY").ask(QUERY)
    assert "key-" not in str(caught.value)
    assert "***" in str(caught.value)


def test_a_model_that_is_named_like_our_key_is_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUSPECT_KEY", KEY)
    with MetaVEndpoint(model, model=f"echo {KEY}") as endpoint:
        answer = target(endpoint.root, "kserve", key="SUSPECT_KEY").ask(QUERY)
    assert answer.served_model == "echo ***:1"
    assert KEY not in json.dumps(answer.raw)


def test_a_header_that_cannot_be_sent_does_not_show_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUSPECT_KEY", f"{KEY}\nX-Other: 1")
    with MetaVEndpoint(model) as endpoint:
        with pytest.raises(AskFailure) as caught:
            target(endpoint.root, key="SUSPECT_KEY").ask(QUERY)
        assert endpoint.questions == []
    assert (caught.value.kind, caught.value.in_doubt) == ("misconfigured", False)
    assert KEY not in str(caught.value)
    monkeypatch.setenv("SUSPECT_KEY", f"{KEY}\u732b")
    with pytest.raises(ConfigError, match="not ASCII") as refused:
        target(endpoint.root, key="SUSPECT_KEY")
    assert KEY not in str(refused.value)


def test_a_url_keeps_its_own_query() -> None:
    suspect = target("http://host/openai", "embeddings", url="http://host/openai/?api-version=1")
    assert suspect.request("a text")[0] == "http://host/openai/embeddings?api-version=1"
    assert target("http://host").request(QUERY)[0] == "http://host/array"


def test_an_answer_holds_nothing_but_what_came() -> None:
    with MetaVEndpoint(model) as endpoint:
        answer = target(endpoint.root).ask(QUERY)
    assert isinstance(answer, Answer)
    assert answer.raw == {"reply": {"predictions": [list(model(QUERY))]}}
