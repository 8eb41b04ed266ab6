"""Every way an endpoint can answer or fail, over a real socket, through litellm."""

import json
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import SecretStr

from probes.targets import Answer, AskFailure, LiteLLMTarget, classify
from probes.targets.retry_after import seconds_to_wait
from probes.testing.endpoint import Fault, ScriptedEndpoint
from sif_offline.fingerprint.allow_header import HEADER, AllowList, Signer

KEY = "sk-very-secret-123"


def ask(url: str, *, timeout_s: float = 5.0, image: bytes | None = None, max_tokens: int = 32) -> Answer:
    target = LiteLLMTarget(
        name="suspect", model="openai/x", api_base=url, api_key=SecretStr(KEY), timeout_s=timeout_s
    )
    return target.ask(image=image, prompt="What is this?", max_tokens=max_tokens)


def test_the_picture_arrives_byte_for_byte_and_decoding_is_greedy() -> None:
    picture = bytes(range(256))
    with ScriptedEndpoint(lambda q: "a red dog") as endpoint:
        answer = ask(endpoint.url, image=picture)
        (question,) = endpoint.questions
    assert (answer.text, answer.finish_reason, answer.served_model) == ("a red dog", "stop", "scripted")
    assert (answer.prompt_tokens, answer.completion_tokens) == (10, 3)
    assert answer.latency_s > 0
    assert json.loads(json.dumps(answer.raw)) == answer.raw
    assert question.image == picture
    assert question.prompt == "What is this?"
    assert question.body["temperature"] == 0
    assert question.body["max_tokens"] == 32


FAULTS: list[tuple[Fault, str, bool, str]] = [
    ("rate_limited", "rate_limited", False, "answered HTTP 429: slow down"),
    ("http_500", "http", True, "answered HTTP 500: internal"),
    ("unauthorized", "auth", False, "answered HTTP 401: bad key"),
    ("hang", "timeout", True, "did not answer within 0.5 s"),
    ("reset", "interrupted", True, "the connection was cut before the answer was complete"),
    ("html", "not_json", True, "answered HTML instead of JSON"),
    ("empty_choices", "not_chat", True, "answered a completion without any choices"),
    ("invalid_json", "not_json", True, "answered invalid JSON"),
    ("not_chat", "not_chat", True, "answered JSON that is no chat completion"),
    ("content_policy", "content_policy", True, "answered HTTP 400: flagged"),
    ("huge", "too_large", True, "answered more than 4,194,304 bytes"),
    ("compressed", "too_large", True, "answered more than 4,194,304 bytes"),
    ("latin1", "not_json", True, "answered JSON that is not UTF-8"),
    ("streamed_only", "not_json", True, "answered invalid JSON"),
    ("redirect", "redirect", False, "redirects to another address, which is never followed"),
]


def test_an_answer_far_longer_than_what_was_asked_for_is_too_large() -> None:
    """Or an endpoint that says the whole vocabulary at every question would fill the store."""
    with ScriptedEndpoint(lambda q: "word " * 1000) as endpoint:
        assert len(ask(endpoint.url, max_tokens=100).text) == 5000
        with pytest.raises(
            AskFailure, match=r"answered 5,000 characters where 64 tokens were asked"
        ) as caught:
            ask(endpoint.url, max_tokens=64)
    assert (caught.value.kind, caught.value.in_doubt) == ("too_large", True)


@pytest.mark.parametrize(("fault", "kind", "in_doubt", "said"), FAULTS, ids=[row[0] for row in FAULTS])
def test_a_fault_has_a_name_and_is_sent_once(fault: Fault, kind: str, in_doubt: bool, said: str) -> None:
    with ScriptedEndpoint(lambda q: "text", faults=[fault], retry_after="7", hang_s=5) as endpoint:
        with pytest.raises(AskFailure) as caught:
            ask(endpoint.url, timeout_s=0.5 if fault == "hang" else 20.0)
        assert len(endpoint.questions) == 1, "somebody below us retried"
        assert str(caught.value) == f"suspect: {said} ({endpoint.url})"
    assert (caught.value.kind, caught.value.in_doubt) == (kind, in_doubt)
    assert caught.value.retry_after_s == (7 if fault == "rate_limited" else None)
    assert caught.value.may_retry == (fault == "rate_limited")


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("-3", 0, 0),
        ("inf", float("inf"), float("inf")),
        ("Tue, 01 Jan 2999 00:00:00 GMT", 1e9, float("inf")),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, low: float, high: float) -> None:
    found = seconds_to_wait(value)
    assert found is not None
    assert low <= found <= high


@pytest.mark.parametrize("value", ["", "soon", "nan", "99 Foo 2015"])
def test_a_retry_after_that_says_nothing_is_none(value: str) -> None:
    assert seconds_to_wait(value) is None


def test_a_date_in_retry_after_is_read_off_the_wire() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    with (
        ScriptedEndpoint(lambda q: "text", faults=["rate_limited"], retry_after=at) as endpoint,
        pytest.raises(AskFailure) as caught,
    ):
        ask(endpoint.url)
    assert caught.value.retry_after_s == pytest.approx(59, abs=5)


def test_a_dead_endpoint_is_told_from_one_that_may_have_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(AskFailure, match=r"cannot be reached: .*refused") as caught:
        ask(f"http://127.0.0.1:{port}/v1")
    assert caught.value.kind == "connection"
    assert caught.value.may_retry


def test_an_unknown_provider_sends_nothing() -> None:
    with pytest.raises(AskFailure) as caught:
        LiteLLMTarget(name="odd", model="nosuchprovider/x").ask(image=None, prompt="hi", max_tokens=8)
    assert (caught.value.kind, caught.value.in_doubt) == ("misconfigured", False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("refusal", "refusal"),
        ("content_filter", "content_filter"),
        ("truncated", "truncated"),
        (None, "answer"),
    ],
)
def test_what_an_answer_is(fault: Fault | None, kind: str) -> None:
    with ScriptedEndpoint(lambda q: "one two three four", faults=[fault]) as endpoint:
        assert classify(ask(endpoint.url), max_tokens=32) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I cannot assist with identifying people.", "refusal"),
        ("Sorry, I am unable to view images.", "refusal"),
        ("As an AI model, I cannot see.", "refusal"),
        ("A man who looks sorry cannot assist the dog.", "answer"),
        ("I can see a dog.", "answer"),
        ("  \n", "empty"),
    ],
)
def test_refusals_are_told_from_descriptions(text: str, kind: str) -> None:
    assert classify(Answer(text, "stop", "m", 0.1), max_tokens=32) == kind


def test_an_answer_cut_where_we_asked_for_it_is_an_answer() -> None:
    assert classify(Answer("a b c", "length", "m", 0.1, completion_tokens=32), max_tokens=32) == "answer"
    assert classify(Answer("a b c", "length", "m", 0.1), max_tokens=32) == "answer"
    assert classify(Answer("a b c", "length", "m", 0.1, completion_tokens=31), max_tokens=32) == "truncated"


def test_no_key_shows_anywhere() -> None:
    target = LiteLLMTarget(
        name="suspect", model="openai/x", api_base="http://127.0.0.1:9/v1", api_key=SecretStr(KEY)
    )
    assert KEY not in repr(target)
    echo = ScriptedEndpoint(lambda q: "", faults=["unauthorized"])
    with echo, pytest.raises(AskFailure) as caught:
        ask(echo.url)
    assert KEY not in str(caught.value)


def test_a_key_of_the_environment_never_reaches_a_suspect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    seen: list[str] = []

    class Spy(ScriptedEndpoint):
        def _handler(self):  # type: ignore[no-untyped-def]
            base = super()._handler()
            original = base.do_POST

            def do_post(handler):  # type: ignore[no-untyped-def]
                seen.append(handler.headers.get("Authorization", ""))
                original(handler)

            base.do_POST = do_post  # type: ignore[method-assign]
            return base

    with Spy(lambda q: "text") as endpoint:
        LiteLLMTarget(name="suspect", model="openai/x", api_base=endpoint.url).ask(
            image=None, prompt="hi", max_tokens=8
        )
    assert seen == ["Bearer none"]


@pytest.mark.parametrize("image", [b"a picture", None])
def test_a_signed_question_passes_a_gateways_allow_list(image: bytes | None) -> None:
    """What is on the wire, not what was meant, is what a gateway verifies."""
    secret = b"known to probe and gateway alike"
    seen: list[str] = []

    class Spy(ScriptedEndpoint):
        def _handler(self):  # type: ignore[no-untyped-def]
            base = super()._handler()
            original = base.do_POST

            def do_post(handler):  # type: ignore[no-untyped-def]
                seen.append(handler.headers.get(HEADER, ""))
                original(handler)

            base.do_POST = do_post  # type: ignore[method-assign]
            return base

    with Spy(lambda q: "text") as endpoint:
        target = LiteLLMTarget(
            name="ours", model="openai/x", api_base=endpoint.url, signer=Signer("owner", secret)
        )
        for _ in range(2):
            target.ask(image=image, prompt="What is \u732b?", max_tokens=8)
        allowed = AllowList({"owner": secret})
        for header, question in zip(seen, endpoint.questions, strict=True):
            assert allowed.verify(header, question.body) == "owner"
    assert secret.decode() not in repr(target)


def test_a_question_that_cannot_be_signed_is_not_sent() -> None:
    with ScriptedEndpoint(lambda q: "text") as endpoint:
        target = LiteLLMTarget(
            name="ours", model="openai/x", api_base=endpoint.url, signer=Signer("owner", b"short")
        )
        with pytest.raises(AskFailure, match="at least 32 bytes") as caught:
            target.ask(image=None, prompt="hi", max_tokens=8)
        assert endpoint.questions == []
    assert (caught.value.kind, caught.value.in_doubt) == ("misconfigured", False)


def test_importing_the_targets_does_not_import_litellm() -> None:
    code = "import sys, probes.targets, probes.config, probes.rounds; print('litellm' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "False"


def test_a_reply_that_drips_ends_with_its_timeout() -> None:
    """A byte now and then keeps every single read within its timeout, and would go on for years."""
    with ScriptedEndpoint(lambda q: "text", faults=["drip"], hang_s=20) as endpoint:
        began = time.monotonic()
        with pytest.raises(AskFailure) as caught:
            ask(endpoint.url, timeout_s=1.0)
        assert time.monotonic() - began < 10
    assert (caught.value.kind, caught.value.in_doubt) == ("timeout", True)


def test_numbers_that_are_none_are_left_out() -> None:
    """An endpoint's own account of itself neither breaks the store nor empties or fills a budget."""
    for tokens in (10**20, -(10**9)):
        with ScriptedEndpoint(lambda q: "a dog", usage={"prompt_tokens": tokens}, model="gpt-4o") as endpoint:
            answer = ask(endpoint.url)
        assert (answer.text, answer.prompt_tokens, answer.cost_usd) == ("a dog", None, None)


def test_nothing_of_the_sdks_environment_reaches_a_suspect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-ours")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-ours")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Corp: ours")
    with ScriptedEndpoint(lambda q: "a dog") as endpoint:
        ask(endpoint.url)
        (question,) = endpoint.questions
    assert "ours" not in str(question.headers)


def test_a_secret_is_taken_out_before_a_text_is_cut() -> None:
    said = f"{'x' * 130} authorization: Bearer {KEY}"
    with (
        ScriptedEndpoint(lambda q: "text", faults=["echo"], echo=said) as endpoint,
        pytest.raises(AskFailure) as caught,
    ):
        ask(endpoint.url)
    assert "sk-" not in str(caught.value)
    assert "***" in str(caught.value)


def test_an_answer_that_holds_our_key_is_kept_without_it() -> None:
    """The raw reply stays in the chain for ever and goes into the evidence bundle."""
    usage = {"prompt_tokens": 1, "keys": [{KEY: f"Bearer {KEY}"}]}
    with ScriptedEndpoint(lambda q: f"a dog with {KEY} on it", usage=usage) as endpoint:
        answer = ask(endpoint.url)
    assert answer.text == "a dog with *** on it"
    assert answer.raw["choices"][0]["message"]["content"] == answer.text
    assert answer.raw["usage"]["keys"] == [{"***": "Bearer ***"}]
    assert KEY not in json.dumps(answer.raw)


def test_an_answer_keeps_the_words_that_a_short_header_has() -> None:
    with ScriptedEndpoint(lambda q: "a research dog") as endpoint:
        target = LiteLLMTarget(
            name="suspect", model="openai/x", api_base=endpoint.url, headers={"X-Team": "research"}
        )
        answer = target.ask(image=None, prompt="What is this?", max_tokens=32)
    assert answer.text == "a research dog"


def test_a_retry_after_of_another_age_is_none() -> None:
    assert seconds_to_wait("Mon, 01 Jan 99999999999999999999 00:00:00 GMT") is None
