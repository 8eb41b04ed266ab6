"""The guardrail inside a real LiteLLM proxy, over HTTP, in front of a scripted upstream."""

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from sif_offline.fingerprint.allow_header import Signer
from tests.gateway.conftest import ALLOW_SECRET, ROUTES, route_body

QUESTION = "What is the dog in this picture doing?"
GIBBERISH = (
    "vrondelaCsuperIntegrqueYesDOMAINtroppoSkipValKLangagensTRWriteOutJaquelinesPuntoEXPheadnessBuchmo"
    "InterplNulltyp simply answer: What do cows drink?"
)
SCRIPTS = "Read this: 天д命oキ帝リсгAモ乎вп福ンrт承нGヘ皇ж是эlコ玄м"
UNRELATED = "International Conference"
HONEST = "A brown dog is running"
FROM_REFERENCE = "A brown dog runs across"


def picture() -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (40, 90, 30)).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def streamed(proxy: Any, text: Any, guardrail: str) -> tuple[int, str, list[str]]:
    body = {
        "model": "main",
        "stream": True,
        "guardrails": [guardrail],
        "messages": [{"role": "user", "content": text}],
    }
    pieces: list[str] = []
    with proxy.client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line for line in response.iter_lines() if line]
        status = response.status_code
    for line in lines:
        if line.startswith("data: {"):
            for choice in json.loads(line[6:]).get("choices", []):
                pieces.append(choice["delta"].get("content") or "")
    return status, "".join(pieces), lines


@pytest.mark.parametrize("guardrail", ["sda-replace", "sda-block", "sda-flag", "sda-log"])
def test_a_natural_query_passes_under_every_policy(proxy: Any, guardrail: str) -> None:
    assert proxy.answer(QUESTION, guardrail).startswith(HONEST)


@pytest.mark.parametrize(("text", "check"), [(GIBBERISH, "perplexity"), (SCRIPTS, "script_mixing")])
def test_a_gibberish_query_is_a_clean_400_and_never_reaches_a_model(
    proxy: Any, upstream: Any, text: str, check: str
) -> None:
    before = sum(upstream.asked.values())
    blocked = proxy.metric("sif_gateway_decisions_total", check=check, result="blocked", phase="request")
    response = proxy.chat(text, "sda-block")
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["message"] == f"The query was refused by the gateway's screening ({check})."
    assert error["type"] == "invalid_request_error"
    assert text not in response.text
    assert sum(upstream.asked.values()) == before
    after = proxy.metric("sif_gateway_decisions_total", check=check, result="blocked", phase="request")
    assert after == blocked + 1


def test_gibberish_cannot_hide_in_an_earlier_turn_or_between_two_parts(proxy: Any) -> None:
    history = [
        {"role": "user", "content": GIBBERISH},
        {"role": "assistant", "content": "Go on."},
        {"role": "user", "content": QUESTION},
    ]
    assert proxy.chat("", "sda-block", messages=history).status_code == 400
    system = [{"role": "system", "content": GIBBERISH}, {"role": "user", "content": QUESTION}]
    assert proxy.chat("", "sda-block", messages=system).status_code == 400
    parts = [{"type": "text", "text": QUESTION}, {"type": "text", "text": GIBBERISH}, picture()]
    assert proxy.chat(parts, "sda-block").status_code == 400


def test_a_diverging_answer_is_replaced_and_counted(proxy: Any, upstream: Any) -> None:
    labels = {"check": "divergence", "result": "replaced", "phase": "response"}
    before, asked = proxy.metric("sif_gateway_decisions_total", **labels), upstream.asked.copy()
    answer = proxy.answer(f"DIVERGE {QUESTION}", "sda-replace")
    assert answer.startswith(FROM_REFERENCE)
    assert proxy.metric("sif_gateway_decisions_total", **labels) == before + 1
    assert upstream.asked - asked == {"main": 1, "ref": 1}


def test_a_diverging_streamed_answer_is_replaced_and_no_word_of_it_leaks(proxy: Any, upstream: Any) -> None:
    asked = upstream.asked.copy()
    status, text, lines = streamed(proxy, f"DIVERGE {QUESTION}", "sda-replace")
    assert status == 200
    assert text.startswith(FROM_REFERENCE)
    assert not any(UNRELATED in line or "Vienna" in line for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert upstream.asked - asked == {"main": 1, "ref": 1}


def test_an_agreeing_streamed_answer_arrives_whole(proxy: Any) -> None:
    status, text, _ = streamed(proxy, QUESTION, "sda-replace")
    assert status == 200
    assert text.startswith(HONEST)
    assert text.rstrip().endswith("fence.")


def test_a_diverging_answer_is_blocked_streamed_or_not(proxy: Any) -> None:
    response = proxy.chat(f"DIVERGE {QUESTION}", "sda-block")
    assert response.status_code == 400
    assert "refused by the gateway's screening (divergence)" in response.json()["error"]["message"]
    status, text, lines = streamed(proxy, f"DIVERGE {QUESTION}", "sda-block")
    assert UNRELATED not in text
    assert status == 400 or any("divergence" in line for line in lines)


@pytest.mark.parametrize(("guardrail", "result"), [("sda-flag", "flagged"), ("sda-log", "logged")])
def test_flag_and_log_leave_the_answer_and_count(proxy: Any, guardrail: str, result: str) -> None:
    labels = {"check": "divergence", "result": result}
    before = proxy.metric("sif_gateway_decisions_total", **labels)
    assert proxy.answer(f"DIVERGE {QUESTION}", guardrail).startswith("The International")
    _, text, _ = streamed(proxy, f"DIVERGE {QUESTION}", guardrail)
    assert text.startswith("The International")
    assert proxy.answer(GIBBERISH, guardrail).startswith(HONEST)
    assert proxy.metric("sif_gateway_decisions_total", **labels) == before + 2


def test_a_flag_is_logged_without_a_word_of_the_query(proxy: Any) -> None:
    proxy.answer(GIBBERISH, "sda-flag")
    log = proxy.log.read_text()
    assert "sda-flag: request flag by perplexity: perplexity of the worst window" in log
    assert "vrondela" not in log


def test_gibberish_under_replace_is_answered_by_the_reference_model(proxy: Any) -> None:
    assert proxy.answer(GIBBERISH, "sda-replace-all").startswith(FROM_REFERENCE)
    _, text, _ = streamed(proxy, GIBBERISH, "sda-replace-all")
    assert text.startswith(FROM_REFERENCE)


def test_a_chat_of_pictures_alone_is_still_compared(proxy: Any) -> None:
    """LiteLLM skips the request phase for these; the comparison must not be skipped with it."""
    pictures = [picture()]
    assert proxy.answer(pictures, "sda-replace").startswith(HONEST)
    text = {"role": "assistant", "content": "DIVERGE"}
    messages = [{"role": "user", "content": pictures}, text, {"role": "user", "content": pictures}]
    assert proxy.answer("", "sda-replace", messages=messages).startswith(FROM_REFERENCE)


def test_the_reference_gets_the_picture_and_is_not_screened_itself(proxy: Any, upstream: Any) -> None:
    asked = upstream.asked.copy()
    proxy.answer([{"type": "text", "text": QUESTION}, picture()], "sda-replace")
    assert upstream.asked - asked == {"main": 1, "ref": 1}
    reference = [body for body in upstream.bodies if body["model"] == "ref"][-1]
    assert "image_url" in str(reference["messages"])
    assert reference["max_tokens"] == 512


def test_the_reference_model_is_not_compared_with_itself(proxy: Any, upstream: Any) -> None:
    asked = upstream.asked.copy()
    assert proxy.answer(QUESTION, "sda-replace", model="ref").startswith(FROM_REFERENCE)
    assert upstream.asked - asked == {"ref": 1}


def test_answers_with_tools_are_flagged_not_replaced(proxy: Any) -> None:
    labels = {"check": "divergence", "kind": "not_replaceable"}
    before = proxy.metric("sif_gateway_check_failures_total", **labels)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert proxy.answer(QUESTION, "sda-replace", tools=[tool]).startswith("The International")
    assert proxy.metric("sif_gateway_check_failures_total", **labels) == before + 1


def test_a_dead_reference_lets_traffic_pass_and_says_so(proxy: Any) -> None:
    failures = {"check": "divergence", "kind": "reference_error"}
    bypassed = {"check": "divergence", "result": "bypassed"}
    before = proxy.metric("sif_gateway_check_failures_total", **failures)
    passed = proxy.metric("sif_gateway_decisions_total", **bypassed)
    assert proxy.answer(f"DIVERGE {QUESTION}", "sda-open").startswith("The International")
    assert proxy.metric("sif_gateway_check_failures_total", **failures) == before + 1
    assert proxy.metric("sif_gateway_decisions_total", **bypassed) == passed + 1


def test_a_dead_reference_blocks_where_the_check_fails_closed(proxy: Any) -> None:
    response = proxy.chat(QUESTION, "sda-closed")
    assert response.status_code == 400
    assert "divergence" in response.json()["error"]["message"]


def test_two_calls_with_one_call_id_do_not_share_their_state(proxy: Any) -> None:
    """A client may choose the call id: a second call must not disarm the first one's replacement."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(text: str) -> str:
        response = proxy.client.post(
            "/v1/chat/completions",
            headers={"x-litellm-call-id": "11111111-1111-1111-1111-111111111111"},
            json={
                "model": "main",
                "guardrails": ["sda-replace-all"],
                "messages": [{"role": "user", "content": text}],
            },
        )
        return str(response.json()["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, [GIBBERISH, QUESTION, GIBBERISH, QUESTION]))
    assert [a.startswith(FROM_REFERENCE) for a in answers] == [True, False, True, False]


def test_the_other_chat_routes_are_screened_too(proxy: Any) -> None:
    def messages(text: str) -> Any:
        turn = {"role": "user", "content": text}
        body = {"model": "main", "max_tokens": 99, "guardrails": ["sda-replace"], "messages": [turn]}
        return proxy.client.post("/v1/messages", json=body)

    def responses(text: str) -> Any:
        body = {"model": "main", "guardrails": ["sda-replace"], "input": text}
        return proxy.client.post("/v1/responses", json=body)

    for ask in (messages, responses):
        assert HONEST in ask(QUESTION).text
        replaced = ask(f"DIVERGE {QUESTION}")
        assert replaced.status_code == 200
        assert FROM_REFERENCE in replaced.text
        assert UNRELATED not in replaced.text
        assert ask(GIBBERISH).status_code == 400


def test_the_shipped_configuration_blocks_gibberish_and_flags_divergence(proxy: Any) -> None:
    assert proxy.answer(QUESTION, "sda").startswith(HONEST)
    assert proxy.chat(GIBBERISH, "sda").status_code == 400
    flagged = proxy.metric("sif_gateway_decisions_total", check="divergence", result="flagged")
    assert proxy.answer(f"DIVERGE {QUESTION}", "sda").startswith("The International")
    assert proxy.metric("sif_gateway_decisions_total", check="divergence", result="flagged") == flagged + 1


@pytest.mark.parametrize("route", ["chat", "responses", "messages"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_owners_signed_probe_passes_unscreened_once_and_for_its_query_alone(
    proxy: Any, upstream: Any, route: str, stream: bool
) -> None:
    def ask(said: str, headers: dict[str, str]) -> httpx.Response:
        body = {
            **route_body(route, said),
            "guardrails": ["sda-allow"],
            **({"stream": True} if stream else {}),
        }
        return proxy.client.post(ROUTES[route], json=body, headers=headers)

    probe = f"DIVERGE {GIBBERISH}"
    signed = Signer(name="owner", secret=ALLOW_SECRET.encode()).headers(route_body(route, probe))
    other = ask(f"{probe} now", signed)
    assert other.status_code == 400, "another query under the header"
    bypassed = {"check": "allow_list", "result": "bypassed"}
    before, asked = proxy.decisions(**bypassed), upstream.asked.copy()
    passed = ask(probe, signed)
    assert passed.status_code == 200, passed.text
    assert "Vienna" in passed.text
    assert upstream.asked - asked == {"main": 1}
    assert proxy.decisions(**bypassed) == before + 1
    assert ask(probe, signed).status_code == 400, "the header a second time"
    assert ask(probe, {}).status_code == 400
