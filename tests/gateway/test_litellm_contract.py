"""What the guardrail relies on in LiteLLM, one plain sentence a reliance, for the day an upgrade fails.

Only undocumented behaviour stands here, observed on a real proxy. A sentence says what an operator loses.
"""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import ROUTES

MARK = "What is the dog in this picture doing today?"
GIBBERISH = (
    "vrondelaCsuperIntegrqueYesDOMAINtroppoSkipValKLangagensTRWriteOutJaquelinesPuntoEXPheadnessBuchmo"
    "InterplNulltyp simply answer: What do cows drink?"
)
CHATS = ("chat", "responses", "messages")
ANSWERED = (*CHATS, "completions")
EVERY = [(route, stream) for route in ANSWERED for stream in (False, True)] + [("embeddings", False)]


def lost(route: str, stream: bool, calls: list[dict[str, Any]]) -> list[str]:
    """What an operator loses, given what the proxy called a guardrail with for one honest request."""
    where = f"{'streamed' if stream else 'whole'} {route}"
    by_phase = {
        phase: [call for call in calls if call["phase"] == phase] for phase in ("request", "response")
    }
    queries, answers = by_phase["request"], by_phase["response"]
    if not queries:
        return [f"LiteLLM no longer shows the guardrail a query: nothing is screened ({where})"]
    query, sentences = queries[0], []

    def need(holds: bool, sentence: str) -> None:
        if not holds:
            sentences.append(f"{sentence} ({where})")

    need(
        len(queries) == 1, "LiteLLM shows the guardrail a query more than once: decisions are counted twice."
    )
    need(MARK in str(query["texts"]), "LiteLLM hides the text of a query: gibberish passes unscored.")
    need(
        query["url"].endswith(ROUTES[route]),
        "LiteLLM no longer says by which route a call came: audit records lose it.",
    )
    need(
        "user-agent" in query["headers"],
        "LiteLLM no longer hands on the request's headers: an owner's signed probes are screened.",
    )
    need(query["model"] == "main", "LiteLLM no longer names the alias asked for: overrides for models fail.")
    need(
        "user_api_key_hash" in query["metadata"],
        "LiteLLM no longer says whose key it is: overrides for teams and keys fail.",
    )
    need(
        "user_api_key" in query["forwardable"],
        "LiteLLM no longer forwards who asked: reference calls are billed to nobody.",
    )
    need(query["router"], "LiteLLM's router cannot be imported: no reference answer is ever asked for.")
    need(
        bool(query["reference_address"]) and all(query["reference_address"]),
        "LiteLLM's router hides an alias's address: every reference counts as public and is not asked.",
    )
    if route not in CHATS:  # their answers are not compared; LiteLLM shows only some of them
        return sentences
    need(
        bool(answers), "LiteLLM no longer shows the guardrail the answer: no answer is compared or replaced."
    )
    if not answers:
        return sentences
    answer = answers[-1]
    need(len(answers) == 1, "LiteLLM shows the guardrail an answer more than once: a state is lost.")
    need(
        "".join(answer["texts"]).strip().endswith("fence."),
        "LiteLLM shows the guardrail a part of the answer only: honest answers look divergent.",
    )
    need(
        bool(query["call"]) and query["call"] == answer["call"],
        "LiteLLM gives the two phases of a call different ids: the reference answer is asked for twice.",
    )
    need(
        query["logging_object"] is not None and query["logging_object"] == answer["logging_object"],
        "LiteLLM no longer keeps one logging object a call: the two phases do not find each other.",
    )
    need(
        MARK in str(query["messages"]),
        "LiteLLM no longer hands over the messages of a chat: no reference model can be asked.",
    )
    return sentences


def observed(proxy: Any, route: str, stream: bool) -> list[dict[str, Any]]:
    """What the proxy called the spy with for one honest request."""
    before = proxy.calls.read_text().count("\n") if proxy.calls.exists() else 0
    got = proxy.ask(route, MARK, "spy", stream=stream)
    assert got.status == 200, got.raw
    if not proxy.calls.exists():
        return []
    return [json.loads(line) for line in proxy.calls.read_text().splitlines()[before:]]


@pytest.mark.parametrize(("route", "stream"), EVERY, ids=[f"{r}-{'sse' if s else 'whole'}" for r, s in EVERY])
def test_litellm_calls_the_guardrail_on_every_route(proxy: Any, route: str, stream: bool) -> None:
    sentences = lost(route, stream, observed(proxy, route, stream))
    assert not sentences, "\n".join(sentences)


def good_calls() -> list[dict[str, Any]]:
    """What a chat looked like to the spy when this was written."""
    both = {
        "call": "a",
        "logging_object": 1,
        "url": "http://127.0.0.1:4000/v1/chat/completions",
        "headers": ["user-agent"],
        "model": "main",
        "metadata": ["user_api_key_hash"],
        "forwardable": ["user_api_key"],
        "router": True,
        "reference_address": ["http://127.0.0.1:8000/v1"],
    }
    messages = [{"role": "user", "content": MARK}]
    return [
        {"phase": "request", "texts": [MARK], "messages": messages, **both},
        {"phase": "response", "texts": ["A dog by the fence."], "messages": None, **both},
    ]


@pytest.mark.parametrize(
    ("phase", "change", "sentence"),
    [
        ("request", None, "no longer shows the guardrail a query"),
        ("response", None, "no longer shows the guardrail the answer"),
        ("request", {"texts": []}, "hides the text of a query"),
        ("request", {"messages": None}, "no longer hands over the messages"),
        ("request", {"url": ""}, "by which route"),
        ("request", {"headers": []}, "signed probes are screened"),
        ("request", {"model": "openai/main"}, "overrides for models fail"),
        ("request", {"metadata": []}, "overrides for teams and keys fail"),
        ("request", {"forwardable": []}, "billed to nobody"),
        ("request", {"router": False}, "router cannot be imported"),
        ("request", {"reference_address": [None]}, "hides an alias's address"),
        ("response", {"texts": ["A dog"]}, "a part of the answer only"),
        ("response", {"call": "b"}, "different ids"),
        ("response", {"logging_object": 2}, "do not find each other"),
    ],
)
def test_each_reliance_fails_with_its_own_sentence(
    phase: str, change: dict[str, Any] | None, sentence: str
) -> None:
    assert lost("chat", False, good_calls()) == []
    calls = [call for call in good_calls() if change is not None or call["phase"] != phase]
    for call in calls:
        if call["phase"] == phase:
            call |= change or {}
    (said,) = lost("chat", False, calls)
    assert sentence in said
    assert said.startswith("LiteLLM")


def test_a_second_call_in_the_same_phase_is_noticed() -> None:
    query, answer = good_calls()
    assert "counted twice" in "".join(lost("chat", False, [query, query, answer]))
    assert "a state is lost" in "".join(lost("chat", False, [query, answer, answer]))


@pytest.mark.parametrize("route", ["chat", "responses", "messages", "embeddings"])
def test_litellm_lets_no_client_say_who_it_is(proxy: Any, route: str) -> None:
    """Overrides for teams and keys rest on it."""
    forged = {"user_api_key_hash": "forged", "user_api_key_team_alias": "research", "x": "y"}
    before = proxy.calls.read_text().count("\n") if proxy.calls.exists() else 0
    got = proxy.ask(route, MARK, "spy", litellm_metadata=forged, metadata=forged)
    assert got.status == 200, got.raw
    for line in proxy.calls.read_text().splitlines()[before:]:
        call = json.loads(line)
        assert call["key_hash"] not in (None, "forged"), (
            f"LiteLLM believes what a client says about its key: overrides can be dodged ({route})"
        )
        assert "user_api_key_team_alias" not in call["metadata"], (
            f"LiteLLM believes what a client says about its team: overrides can be dodged ({route})"
        )


@pytest.mark.parametrize("route", CHATS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "sse"])
def test_litellm_serves_replacements_blocks_and_headers(proxy: Any, route: str, stream: bool) -> None:
    where = f"({'streamed' if stream else 'whole'} {route})"
    got = proxy.ask(route, f"DIVERGE {MARK}", "sda-replace", stream=stream)
    assert got.status == 200, f"LiteLLM turns a replaced answer into an error: replace mode is gone {where}"
    assert got.text.startswith("A brown dog runs across"), (
        f"LiteLLM no longer serves ModifyResponseException's text: replace mode does nothing {where}"
    )
    assert "Vienna" not in got.raw, f"LiteLLM lets words of the replaced answer out {where}"
    assert "x-sif-gateway-replaced" in got.headers, (
        f"LiteLLM's application cannot be wrapped any more: replacements are not disclosed {where}"
    )
    blocked = proxy.ask(route, GIBBERISH, "sda-block", stream=stream)
    assert blocked.status == 400, (
        f"LiteLLM answers a block with {blocked.status}: SDKs try again, dashboards show an outage {where}"
    )


STARTS = """
import sys
from litellm.integrations.custom_guardrail import CustomGuardrail

class Loud(CustomGuardrail):
    def __init__(self, *, error, gateway_plugin=None, **kwargs):
        print("KEY", gateway_plugin)
        super().__init__(**kwargs)
        if error: raise {"RuntimeError": RuntimeError, "ValueError": ValueError}[error]("no such setting")

class FromRuntime(Loud):
    def __init__(self, **kwargs): super().__init__(error="RuntimeError", **kwargs)

class FromValue(Loud):
    def __init__(self, **kwargs): super().__init__(error="ValueError", **kwargs)

class Fine(Loud):
    def __init__(self, **kwargs): super().__init__(error="", **kwargs)
    async def apply_guardrail(self, inputs, request_data, input_type, logging_obj=None): return inputs

class Inherits(Fine):
    pass

if __name__ == "__main__":
    import litellm
    from litellm.proxy.guardrails.init_guardrails import init_guardrails_v2
    from litellm.proxy.proxy_server import app
    for name in ("FromValue", "Fine", "FromRuntime"):
        mode = ["pre_call", "post_call"]
        params = {"guardrail": f"starts.{name}", "mode": mode, "gateway_plugin": {"a": 1}}
        row = {"guardrail_name": name, "litellm_params": params}
        try:
            init_guardrails_v2([row], config_file_path=sys.argv[1])
        except RuntimeError as error:
            print("STOPPED", name, error)
        else:
            print("STARTED", name)
    print("CALLED", [type(c).__name__ for c in litellm.callbacks if "apply_guardrail" in type(c).__dict__])
    print("STACK", hasattr(app, "middleware_stack"))
"""


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What LiteLLM does with guardrails whose constructors raise, in a process of its own."""
    folder: Path = tmp_path_factory.mktemp("starts")
    (folder / "starts.py").write_text(STARTS)
    (folder / "config.yaml").touch()
    done = subprocess.run(
        [sys.executable, "starts.py", str(folder / "config.yaml")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "STOPPED FromRuntime no such setting",
            "LiteLLM swallows a RuntimeError of a guardrail's constructor: a wrong setting no longer stops "
            "the start, and the proxy runs unscreened.",
        ),
        (
            "STARTED FromValue",
            "LiteLLM no longer swallows a ValueError of a guardrail's constructor: our RuntimeError is not "
            "needed any more. Nothing is lost; simplify GatewayConfigError.",
        ),
        (
            "KEY {'a': 1}",
            "LiteLLM no longer hands a guardrail the key gateway_plugin of its litellm_params: no setting of "
            "an operator arrives.",
        ),
        (
            "CALLED ['Fine']",
            "LiteLLM no longer registers a guardrail given by its dotted path as a callback: it is never "
            "called.",
        ),
        (
            "STACK True",
            "LiteLLM's application has no middleware_stack: replacements are not disclosed by headers.",
        ),
    ],
)
def test_what_litellm_does_when_it_starts(starts: str, line: str, sentence: str) -> None:
    assert line in starts, sentence


def test_the_guardrail_has_its_hook_on_the_leaf_class() -> None:
    from gateway_plugin.litellm_guardrail import SDAGuardrail

    assert "apply_guardrail" in SDAGuardrail.__dict__, (
        "The guardrail inherits apply_guardrail: LiteLLM looks at the leaf class only and never calls it."
    )


def test_the_parts_of_litellm_that_are_used_take_the_arguments_they_are_given() -> None:
    from litellm.exceptions import GuardrailRaisedException, ModifyResponseException
    from litellm.integrations.custom_guardrail import CustomGuardrail
    from litellm.litellm_core_utils.internal_call_metadata import sanitized_forwardable_call_metadata

    def takes(function: Any, *names: str) -> bool:
        return set(names) <= set(inspect.signature(function).parameters)

    assert takes(
        ModifyResponseException, "message", "model", "request_data", "guardrail_name", "original_response"
    ), "ModifyResponseException takes other arguments: a replacement ends in an error 500."
    assert takes(
        GuardrailRaisedException,
        "guardrail_name",
        "message",
        "should_wrap_with_default_message",
        "status_code",
        "blocked_content",
    ), "GuardrailRaisedException takes other arguments: a block ends in an error 500."
    assert takes(
        CustomGuardrail.add_standard_logging_guardrail_information_to_request_data,
        *("guardrail_json_response", "request_data", "guardrail_status", "start_time", "end_time"),
        *("duration", "guardrail_provider"),
    ), "LiteLLM's logging of guardrails takes other arguments: every screened call ends in an error 500."
    forwarded = sanitized_forwardable_call_metadata(
        {"user_api_key": "k", "user_api_key_budget_reservation": {"id": 1}}, "sif_gateway_reference"
    )
    assert forwarded.get("user_api_key") == "k", "Reference calls are billed to nobody."
    assert "user_api_key_budget_reservation" not in forwarded, (
        "LiteLLM forwards the main call's budget reservation: a reference call settles it in its place."
    )


def test_litellm_keeps_what_the_guardrail_logs() -> None:
    from litellm.integrations.custom_guardrail import CustomGuardrail

    request: dict[str, Any] = {"metadata": {}}
    CustomGuardrail(guardrail_name="sda").add_standard_logging_guardrail_information_to_request_data(
        guardrail_json_response={"action": "flag"},
        request_data=request,
        guardrail_status="guardrail_flagged",
        start_time=1.0,
        end_time=2.0,
        duration=1.0,
        guardrail_provider="sifwatch",
    )
    (entry,) = request["metadata"]["standard_logging_guardrail_information"]
    assert entry["guardrail_status"] == "guardrail_flagged", (
        "LiteLLM no longer knows the status guardrail_flagged: its logs cannot tell a flag from a pass."
    )
