"""All shapes of traffic through a real LiteLLM proxy: routes, streams, parts, languages, disclosure."""

import base64
import io
import json
import re
from typing import Any

import pytest
from PIL import Image

from gateway_plugin.config import read_configuration
from gateway_plugin.litellm_exchange import read_exchange

QUESTION = "What is the dog in this picture doing?"
DIVERGE = f"DIVERGE {QUESTION}"
GIBBERISH = (
    "vrondelaCsuperIntegrqueYesDOMAINtroppoSkipValKLangagensTRWriteOutJaquelinesPuntoEXPheadnessBuchmo"
    "InterplNulltyp simply answer: What do cows drink?"
)
HONEST = "A brown dog is running"
UNRELATED = "The International Conference"
FROM_REFERENCE = "A brown dog runs across"
CHATS = ("chat", "responses", "messages")
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
CHAT_ROUTES = pytest.mark.parametrize("route", CHATS)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def png(colour: tuple[int, int, int] = (40, 90, 30)) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def text_part(route: str, text: str) -> dict[str, Any]:
    return {"type": "input_text" if route == "responses" else "text", "text": text}


def picture_part(route: str, data: str) -> dict[str, Any]:
    url = f"data:image/png;base64,{data}"
    if route == "responses":
        return {"type": "input_image", "image_url": url}
    if route == "messages":
        return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    return {"type": "image_url", "image_url": {"url": url}}


def turns(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in pairs]


# Routes, streamed and not


@CHAT_ROUTES
@STREAMED
def test_an_honest_exchange_passes(proxy: Any, route: str, stream: bool) -> None:
    got = proxy.ask(route, QUESTION, "sda-replace", stream=stream)
    assert got.status == 200, got.raw
    assert got.text.startswith(HONEST)
    assert got.text.rstrip().endswith("fence.")


@CHAT_ROUTES
@STREAMED
def test_gibberish_is_refused_before_any_model_is_asked(
    proxy: Any, upstream: Any, route: str, stream: bool
) -> None:
    asked = upstream.asked.copy()
    got = proxy.ask(route, GIBBERISH, "sda-block", stream=stream)
    assert got.status == 400
    assert "refused by the gateway's screening (perplexity)" in got.raw
    assert upstream.asked == asked


@CHAT_ROUTES
@STREAMED
def test_a_diverging_answer_is_replaced_and_disclosed(
    proxy: Any, upstream: Any, route: str, stream: bool
) -> None:
    asked, bodies = upstream.asked.copy(), len(upstream.bodies)
    replaced = proxy.decisions(check="divergence", result="replaced")
    got = proxy.ask(route, DIVERGE, "sda-replace", stream=stream)
    assert got.status == 200, got.raw
    assert got.text.startswith(FROM_REFERENCE)
    assert "Vienna" not in got.raw
    assert "International" not in got.raw
    assert upstream.asked - asked == {"main": 1, "ref": 1}
    assert {body["model"] for body in upstream.bodies[bodies:]} == {"main", "ref"}
    assert proxy.decisions(check="divergence", result="replaced") == replaced + 1
    assert got.headers["x-sif-gateway-replaced"] == "true"
    assert re.fullmatch(r"[0-9a-f]{32}", got.headers["x-sif-gateway-audit-id"])
    assert got.headers["x-sif-gateway-billed-models"] == "main, ref"


@CHAT_ROUTES
@STREAMED
def test_a_diverging_answer_is_blocked(proxy: Any, route: str, stream: bool) -> None:
    got = proxy.ask(route, DIVERGE, "sda-block", stream=stream)
    if (route, stream) == ("responses", True):  # this route tells of errors in its stream
        (event,) = got.events
        assert event["response"]["error"]["code"] == "content_policy_violation"
    else:
        assert got.status == 400, got.raw
    assert got.text == ""
    assert "refused by the gateway's screening (divergence)" in got.raw
    assert "Vienna" not in got.raw


@CHAT_ROUTES
@STREAMED
def test_a_flag_changes_nothing_for_the_client(proxy: Any, route: str, stream: bool) -> None:
    flagged = proxy.decisions(check="divergence", result="flagged")
    got = proxy.ask(route, DIVERGE, "sda-flag", stream=stream)
    assert (got.status, got.text.strip()[:28]) == (200, UNRELATED)
    assert proxy.decisions(check="divergence", result="flagged") == flagged + 1
    assert "x-sif-gateway-replaced" not in got.headers


@CHAT_ROUTES
def test_usage_of_a_replaced_answer_is_the_reference_models_and_names_it(proxy: Any, route: str) -> None:
    usage = proxy.ask(route, DIVERGE, "sda-replace").body["usage"]
    counted = [usage.get("prompt_tokens", usage.get("input_tokens"))]
    counted += [usage.get("completion_tokens", usage.get("output_tokens"))]
    assert counted == [7, 13]
    # LiteLLM drops everything but the counts on the messages route; the header says it there.
    assert route == "messages" or usage.get("billed_model") == "ref", usage


@STREAMED
def test_what_is_disclosed_is_the_operators_choice(proxy: Any, stream: bool) -> None:
    told = proxy.ask("chat", DIVERGE, "sda-tell-id", stream=stream)
    assert told.text.startswith(FROM_REFERENCE)
    assert [name for name in told.headers if name.startswith("x-sif-")] == ["x-sif-gateway-audit-id"]
    untold = proxy.ask("chat", DIVERGE, "sda-tell-nothing", stream=stream)
    assert untold.text.startswith(FROM_REFERENCE)
    assert not [name for name in untold.headers if name.startswith("x-sif-")]
    for got in (told, untold):
        assert "billed_model" not in got.raw


def test_both_phases_of_a_call_carry_one_audit_id_and_two_calls_two(proxy: Any) -> None:
    first, second = (proxy.ask("chat", DIVERGE, "sda-flag").headers for _ in range(2))
    ids = [got.get_list("x-sif-gateway-audit-id") for got in (first, second)]
    assert [len(each) for each in ids] == [1, 1]
    assert ids[0] != ids[1]
    logged = proxy.log.read_text()
    assert "response flag by divergence: " in logged
    assert f"(audit id {ids[0][0]})" in logged


# Routes without a chat


def test_embeddings_are_screened_by_perplexity_and_no_reference_is_asked(proxy: Any, upstream: Any) -> None:
    asked = upstream.asked.copy()
    for said in (QUESTION, [QUESTION, "A green field."], [[1, 2, 3]], [1, 2, 3]):
        got = proxy.ask("embeddings", said, "sda-replace")
        assert got.status == 200, got.raw
        assert got.body["data"][0]["embedding"] == [0.5, 0.25]
    assert upstream.asked - asked == {"main": 4}
    for said in (GIBBERISH, [QUESTION, GIBBERISH]):
        assert proxy.ask("embeddings", said, "sda-replace").status == 400
    assert upstream.asked - asked == {"main": 4}


def test_embeddings_that_ask_for_a_replacement_are_flagged_instead(proxy: Any, upstream: Any) -> None:
    labels = {"check": "perplexity", "kind": "not_replaceable"}
    before, asked = proxy.failures(**labels), upstream.asked.copy()
    assert proxy.ask("embeddings", GIBBERISH, "sda-replace-all").status == 200
    assert proxy.failures(**labels) == before + 1
    assert upstream.asked - asked == {"main": 1}


@STREAMED
def test_text_completions_are_screened_by_perplexity(proxy: Any, upstream: Any, stream: bool) -> None:
    asked = upstream.asked.copy()
    got = proxy.ask("completions", QUESTION, "sda-replace", stream=stream)
    assert got.status == 200, got.raw
    assert got.text.startswith(HONEST)
    assert proxy.ask("completions", GIBBERISH, "sda-replace", stream=stream).status == 400
    assert proxy.ask("completions", [QUESTION, GIBBERISH], "sda-replace").status == 400
    assert upstream.asked - asked == {"main": 1}


def test_a_conversation_that_the_server_keeps_is_scored_but_not_put_to_a_reference(
    proxy: Any, upstream: Any
) -> None:
    """A reference would answer the last turn alone, so an honest answer would look divergent."""
    asked = upstream.asked.copy()
    got = proxy.ask("responses", f"DIVERGE {QUESTION}", "sda-replace", previous_response_id="resp_1")
    assert (got.status, got.text[:28]) == (200, UNRELATED), got.raw
    assert upstream.asked - asked == {"main": 1}
    for more in ({"instructions": GIBBERISH}, {}):
        said = QUESTION if more else GIBBERISH
        got = proxy.ask("responses", said, "sda-replace", previous_response_id="resp_1", **more)
        assert got.status == 400, got.raw


# Parts of messages


@CHAT_ROUTES
@STREAMED
def test_pictures_alone_are_still_compared_with_the_reference(
    proxy: Any, upstream: Any, route: str, stream: bool
) -> None:
    pictures = [picture_part(route, png())]
    asked = upstream.asked.copy()
    got = proxy.ask(route, turns(("user", pictures)), "sda-replace", stream=stream)
    assert got.status == 200, got.raw
    assert got.text.startswith(HONEST)
    assert upstream.asked - asked == {"main": 1, "ref": 1}
    assert png() in str([body for body in upstream.bodies if body["model"] == "ref"][-1])


@CHAT_ROUTES
def test_every_picture_reaches_the_reference_in_order(proxy: Any, upstream: Any, route: str) -> None:
    pictures = [png((200, 10, 10)), png((10, 200, 10)), png((10, 10, 200))]
    parts = [text_part(route, QUESTION), *(picture_part(route, data) for data in pictures)]
    assert proxy.ask(route, turns(("user", parts)), "sda-replace").text.startswith(HONEST)
    sent = json.dumps([body for body in upstream.bodies if body["model"] == "ref"][-1])
    places = [sent.index(data) for data in pictures]
    assert places == sorted(places)
    assert "url" in sent


@CHAT_ROUTES
def test_gibberish_cannot_hide_behind_other_parts_turns_or_roles(proxy: Any, route: str) -> None:
    def text(said: str) -> list[dict[str, Any]]:
        return [text_part(route, said)]

    answer = {"type": "output_text" if route == "responses" else "text", "text": "Go on."}
    hidden = [
        turns(("user", [*text(QUESTION), *text(GIBBERISH), picture_part(route, png())])),
        turns(("user", GIBBERISH), ("assistant", [answer]), ("user", QUESTION)),
    ]
    if route != "messages":
        hidden += [turns((role, GIBBERISH), ("user", QUESTION)) for role in ("system", "developer")]
    for said in hidden:
        assert proxy.ask(route, said, "sda-block").status == 400, said
    beside = {"responses": {"instructions": GIBBERISH}, "messages": {"system": GIBBERISH}}.get(route)
    if beside:
        assert proxy.ask(route, QUESTION, "sda-block", **beside).status == 400
    if route == "messages":
        blocks = {"system": [{"type": "text", "text": GIBBERISH}]}
        assert proxy.ask(route, QUESTION, "sda-block", **blocks).status == 400


def test_honest_system_and_developer_prompts_pass(proxy: Any) -> None:
    for role in ("system", "developer"):
        said = turns((role, "You are a patient assistant. Answer in one sentence."), ("user", QUESTION))
        assert proxy.ask("chat", said, "sda-block").text.startswith(HONEST)


@CHAT_ROUTES
@STREAMED
def test_an_answer_with_tools_in_play_is_flagged_not_replaced(proxy: Any, route: str, stream: bool) -> None:
    shape = {
        "chat": TOOL,
        "responses": {"type": "function", **TOOL["function"]},
        "messages": {"name": "f", "input_schema": TOOL["function"]["parameters"]},
    }[route]
    labels = {"check": "divergence", "kind": "not_replaceable"}
    before = proxy.failures(**labels)
    got = proxy.ask(route, DIVERGE, "sda-replace", stream=stream, tools=[shape])
    assert (got.status, got.text.strip()[:28]) == (200, UNRELATED), got.raw
    assert proxy.failures(**labels) == before + 1


def test_what_a_tool_returned_is_not_the_clients_text(proxy: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": f"token: {GIBBERISH}"},
    ]
    assert proxy.ask("chat", said, "sda-block", tools=[TOOL]).status != 500
    before = proxy.decisions(check="perplexity", result="blocked")
    proxy.ask("chat", said, "sda-block")
    assert proxy.decisions(check="perplexity", result="blocked") == before


UNREPLACEABLE: dict[str, dict[str, Any]] = {
    "n": {"n": 2},
    "json_schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}},
        }
    },
    "json_object": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
}


@pytest.mark.parametrize("options", UNREPLACEABLE.values(), ids=UNREPLACEABLE)
def test_answers_of_a_special_form_are_never_replaced(proxy: Any, options: dict[str, Any]) -> None:
    labels = {"check": "divergence", "kind": "not_replaceable"}
    before = proxy.failures(**labels)
    flagged = proxy.ask("chat", DIVERGE, "sda-replace-all", **options)
    assert (flagged.status, flagged.text[:28]) == (200, UNRELATED), flagged.raw
    assert "x-sif-gateway-replaced" not in flagged.headers
    closed = proxy.ask("chat", DIVERGE, "sda-replace-closed", **options)
    assert closed.status == 400
    assert "Vienna" not in closed.raw
    assert proxy.failures(**labels) == before + 2


@pytest.mark.parametrize(
    "options",
    [
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}}},
        {"include": ["message.output_text.logprobs"]},
    ],
    ids=["json_schema", "logprobs"],
)
def test_special_forms_of_the_responses_route_are_never_replaced(proxy: Any, options: dict[str, Any]) -> None:
    got = proxy.ask("responses", DIVERGE, "sda-replace", **options)
    assert (got.status, got.text[:28]) == (200, UNRELATED), got.raw
    assert proxy.ask("responses", DIVERGE, "sda-replace-closed", **options).status == 400


# What honest users write

LANGUAGES = {
    "chinese": "请描述一下这张图片里的狗在做什么，它的主人站在哪里？",
    "japanese": "この写真の中の犬は何をしていますか。飼い主はどこに立っていますか。",
    "korean": "이 사진 속의 개는 무엇을 하고 있나요? 주인은 어디에 서 있나요?",
    "arabic": "ماذا يفعل الكلب في هذه الصورة، وأين يقف صاحبه؟",
    "hebrew": "מה עושה הכלב בתמונה הזאת, ואיפה עומד הבעלים שלו?",
    "russian": "Что делает собака на этой фотографии и где стоит её хозяин?",
    "hindi": "इस तस्वीर में कुत्ता क्या कर रहा है और उसका मालिक कहाँ खड़ा है?",
    "thai": "สุนัขในภาพนี้กำลังทำอะไร และเจ้าของยืนอยู่ที่ไหน",
    "greek": "Τι κάνει ο σκύλος σε αυτή τη φωτογραφία και πού στέκεται ο ιδιοκτήτης του;",
    "german": "Was macht der Hund auf diesem Bild, und wo steht sein Besitzer?",
    "turkish": "Bu resimdeki köpek ne yapıyor ve sahibi nerede duruyor?",
}
MACHINE_TEXT = {
    "python": (
        "Why does this loop never end?\n\n```python\nimport sys\n\n\ndef main(argv: list[str]) -> int:\n"
        "    i = 0\n    while i < len(argv):\n        if argv[i].startswith('--'):\n            continue\n"
        "        i += 1\n    return 0\n\n\nif __name__ == '__main__':\n    sys.exit(main(sys.argv))\n```"
    ),
    "json": json.dumps(
        {
            "task": "Summarise the order",
            "order": {"id": 10482, "items": [{"sku": "A-113", "count": 2, "price": 9.5}], "paid": True},
            "customer": {"name": "Ann Miller", "city": "Leeds", "tags": ["new", "newsletter"]},
        },
        indent=2,
    ),
    "sql": "Please explain: SELECT name, COUNT(*) AS n FROM orders WHERE paid = TRUE GROUP BY name;",
    "latex": r"Is this right? $\int_0^1 x^2 \, dx = \frac{1}{3}$ and $\sum_{k=1}^n k = \frac{n(n+1)}{2}$.",
    "url": "What is at https://en.wikipedia.org/wiki/Dog?action=history and who wrote most of it?",
}


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
def test_a_question_in_any_language_passes(proxy: Any, text: str) -> None:
    assert proxy.answer(text, "sda-block").startswith(HONEST)


@pytest.mark.parametrize("text", MACHINE_TEXT.values(), ids=MACHINE_TEXT)
def test_code_and_data_in_a_prompt_pass(proxy: Any, text: str) -> None:
    assert proxy.answer(text, "sda-block").startswith(HONEST)


PARAGRAPH = (
    "The committee met on Tuesday to talk about the new bridge. Most of the people who live by the river "
    "want it to be built soon, but the shops fear for their customers while the road is closed. "
)


def test_a_prompt_of_100_kilobytes_passes_and_gibberish_at_its_end_does_not(proxy: Any) -> None:
    long = PARAGRAPH * (100_000 // len(PARAGRAPH) + 1)
    assert len(long) >= 100_000
    assert proxy.answer(f"{long}\nWhat do the shops fear?", "sda-block").startswith(HONEST)
    for said in (f"{long}\n{GIBBERISH}", f"{GIBBERISH}\n{long}"):
        assert proxy.ask("chat", said, "sda-block").status == 400


# Policy, as a client meets it


@STREAMED
def test_a_dry_run_changes_nothing_and_counts_what_it_would_do(proxy: Any, stream: bool) -> None:
    would = {
        name: proxy.decisions(check=check, result=name)
        for name, check in (("would_block", "perplexity"), ("would_replace", "divergence"))
    }
    real = [proxy.decisions(result=result) for result in ("blocked", "replaced")]
    got = proxy.ask("chat", GIBBERISH, "sda-dry", stream=stream)
    assert (got.status, got.text[:22]) == (200, HONEST)
    got = proxy.ask("chat", DIVERGE, "sda-dry", stream=stream)
    assert (got.status, got.text[:28]) == (200, UNRELATED)
    assert "x-sif-gateway-replaced" not in got.headers
    assert proxy.decisions(check="perplexity", result="would_block") == would["would_block"] + 1
    assert proxy.decisions(check="divergence", result="would_replace") == would["would_replace"] + 1
    assert [proxy.decisions(result=result) for result in ("blocked", "replaced")] == real


def test_two_checks_together_may_do_what_neither_does_alone(proxy: Any) -> None:
    blocked = proxy.decisions(check="both", result="blocked")
    assert proxy.ask("chat", f"{QUESTION} Please.", "sda-combined").status == 200
    got = proxy.ask("chat", f"{DIVERGE} Please.", "sda-combined")
    assert got.status == 400
    assert "(both)" in got.raw
    assert proxy.decisions(check="both", result="blocked") == blocked + 1
    assert proxy.ask("chat", f"{DIVERGE} Please.", "sda-flag").status == 200


def test_an_override_holds_for_its_model_alone(proxy: Any, upstream: Any) -> None:
    assert proxy.ask("chat", GIBBERISH, "sda-overridden").status == 200
    assert proxy.ask("chat", GIBBERISH, "sda-overridden", model="main-strict").status == 400
    asked = upstream.asked.copy()
    assert proxy.ask("chat", QUESTION, "sda-overridden", model="main-other-ref").status == 200
    assert upstream.asked - asked == {"main-other-ref": 1, "main": 1}


def test_overrides_find_team_and_key_under_the_names_the_proxy_authenticated() -> None:
    strict = {"action": "block"}
    configuration = read_configuration(
        {
            "reference_model": "ref",
            "overrides": [
                {"match": {"team": "research"}, "settings": strict},
                {"match": {"key": "nightly"}, "settings": {"dry_run": True}},
                {"match": {"team": "sales", "model": "vision"}, "settings": strict},
            ],
        },
        where="test",
    )

    def picked(model: str = "m", **metadata: str) -> tuple[str, bool]:
        request = {"model": model, "metadata": metadata, "user_api_key_team_alias": "research"}
        exchange = read_exchange({"texts": ["hello"]}, request, phase="request", logging_obj=None)
        caller = exchange.caller
        found = configuration.pick(teams=caller.teams, keys=caller.keys, model=exchange.model)
        return found.action, found.dry_run

    assert picked() == ("flag", False), "a name in the client's own body is nobody's"
    assert picked(user_api_key_team_alias="research") == ("block", False)
    assert picked(user_api_key_team_id="research") == ("block", False)
    assert picked(user_api_key_alias="nightly") == ("flag", True)
    assert picked(user_api_key_team_alias="sales") == ("flag", False)
    assert picked("vision", user_api_key_team_alias="sales") == ("block", False)
    assert picked(team="research", alias="nightly") == ("flag", False)


def test_a_client_cannot_dodge_an_override_with_metadata_of_its_own() -> None:
    written = {"user_api_key_hash": "abc", "user_api_key_team_alias": "research"}
    clients = {"x": "y"}
    for request in (
        {"metadata": written, "litellm_metadata": clients},
        {"metadata": clients, "litellm_metadata": written},
    ):
        exchange = read_exchange({"texts": ["hello"]}, request, phase="request", logging_obj=None)
        assert (exchange.caller.team, exchange.caller.key) == ("research", "abc")


# What a reference is told, and how often


def shown_to_reference(upstream: Any, since: int) -> list[dict[str, Any]]:
    return [body for body in upstream.bodies[since:] if body["model"] == "ref"]


@pytest.mark.parametrize("guardrail", ["sda-remote", "sda-public", "sda-mixed"])
@CHAT_ROUTES
def test_nothing_leaves_for_a_reference_that_is_not_local(
    proxy: Any, upstream: Any, route: str, guardrail: str
) -> None:
    since = len(upstream.bodies)
    got = proxy.ask(route, DIVERGE, guardrail)
    assert (got.status, got.text[:28]) == (200, UNRELATED), got.raw
    assert proxy.ask(route, GIBBERISH, guardrail).status == 200
    pictures = [picture_part(route, png())]
    assert proxy.ask(route, turns(("user", pictures)), guardrail).status == 200
    assert shown_to_reference(upstream, since) == []


@CHAT_ROUTES
def test_texts_and_pictures_are_shared_separately(proxy: Any, upstream: Any, route: str) -> None:
    parts = [text_part(route, DIVERGE), picture_part(route, png())]
    since = len(upstream.bodies)
    assert proxy.ask(route, DIVERGE, "sda-remote-content").text.startswith(FROM_REFERENCE)
    assert len(shown_to_reference(upstream, since)) == 1
    since = len(upstream.bodies)
    assert proxy.ask(route, turns(("user", parts)), "sda-remote-content").text.startswith(UNRELATED)
    assert shown_to_reference(upstream, since) == []
    assert proxy.ask(route, turns(("user", parts)), "sda-remote-all").text.startswith(FROM_REFERENCE)
    (sent,) = shown_to_reference(upstream, since)
    assert png() in str(sent)


def test_a_sampling_rate_of_zero_asks_no_reference_but_replacements_still_do(
    proxy: Any, upstream: Any
) -> None:
    asked = upstream.asked.copy()
    assert proxy.ask("chat", DIVERGE, "sda-sampled-out").text.startswith(UNRELATED)
    assert upstream.asked - asked == {"main": 1}
    assert proxy.ask("chat", GIBBERISH, "sda-sampled-out").text.startswith(FROM_REFERENCE)


def test_the_budget_of_reference_calls_holds_and_is_counted(proxy: Any, upstream: Any) -> None:
    labels = {"check": "divergence", "kind": "reference_budget"}
    before, asked = proxy.failures(**labels), upstream.asked.copy()
    for _ in range(5):
        assert proxy.ask("chat", QUESTION, "sda-budget").status == 200
    assert upstream.asked - asked == {"main": 5, "ref": 2}
    assert proxy.failures(**labels) == before + 3


def test_the_reference_is_asked_as_the_client_asked(proxy: Any, upstream: Any) -> None:
    """The reference's options are the client's own, its length is bounded, and formats are left out."""
    options = {"temperature": 0.25, "top_p": 0.5, "seed": 7, "max_tokens": 64}
    proxy.ask("chat", QUESTION, "sda-replace", **options)
    sent = shown_to_reference(upstream, 0)[-1]
    assert {name: sent.get(name) for name in options} == options
    proxy.ask("chat", QUESTION, "sda-replace", max_tokens=90_000, response_format={"type": "json_object"})
    sent = shown_to_reference(upstream, 0)[-1]
    assert sent["max_tokens"] == 512
    assert "response_format" not in sent
