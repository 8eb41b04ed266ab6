"""A model of a LiteLLM proxy, asked through a real router: failures by the same names, one send each."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from probes.config import ConfigError, TargetConfig
from probes.litellm_router import RouterTarget, alias_problem, alias_warning, make_router_target
from probes.targets import AskFailure, LiteLLMTarget, classify
from probes.testing.endpoint import Fault, ScriptedEndpoint

KEY = "sk-deployment-of-the-proxy"


class Loop:
    """An event loop in a thread of its own, as a proxy's is to the rounds."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Like the end of a process: what runs is cancelled."""

        async def leave() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(leave(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture
def proxy_loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    if not made.loop.is_closed():
        made.stop()


def make_router(*urls: str, name: str = "suspect-alias", **settings: Any) -> Any:
    """A router that retries and falls back by itself, over one deployment a URL."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm import Router

    def model(alias: str, url: str) -> dict[str, Any]:
        return {
            "model_name": alias,
            "litellm_params": {"model": "openai/x", "api_base": url, "api_key": KEY, "max_retries": 2},
        }

    return Router(
        model_list=[*(model(name, url) for url in urls), model("other", urls[0])],
        **{"num_retries": 2, "fallbacks": [{name: ["other"]}], "disable_cooldowns": True} | settings,
    )


def target_of(
    router: Any, loop: Loop, *, alias: str = "suspect-alias", timeout_s: float = 5.0
) -> RouterTarget:
    return RouterTarget(
        name="suspect", alias=alias, router=lambda: router, loop=loop.loop, timeout_s=timeout_s
    )


FAULTS: tuple[Fault, ...] = (
    "rate_limited",
    "http_500",
    "unauthorized",
    "hang",
    "reset",
    "html",
    "empty_choices",
    "invalid_json",
    "not_chat",
    "content_policy",
)


def test_a_fault_is_named_as_without_a_router_and_sent_once(proxy_loop: Loop) -> None:
    """Ten ways to fail. In doubt or not must be the same: it decides whether a trigger goes out again."""
    for fault in FAULTS:
        found = []
        with ScriptedEndpoint(lambda q: "text", retry_after="7", hang_s=5) as endpoint:
            direct = LiteLLMTarget(
                name="suspect", model="openai/x", api_base=endpoint.url, api_key=SecretStr(KEY), timeout_s=0.5
            )
            for target in (direct, target_of(make_router(endpoint.url), proxy_loop, timeout_s=0.5)):
                endpoint.fail_next(fault)
                asked = len(endpoint.questions)
                with pytest.raises(AskFailure) as caught:
                    target.ask(image=b"a picture", prompt="What is this?", max_tokens=32)
                assert len(endpoint.questions) == asked + 1, f"{fault}: somebody below us sent it again"
                assert "\n" not in str(caught.value)
                found.append(caught.value)
        one, other = ((error.kind, error.in_doubt, error.retry_after_s, error.status) for error in found)
        assert one == other, f"{fault}: {found[1]}"


def test_an_answer_is_read_as_without_a_router(proxy_loop: Loop) -> None:
    picture = bytes(range(256))
    with ScriptedEndpoint(lambda q: "a red dog") as endpoint:
        target = target_of(make_router(endpoint.url), proxy_loop)
        answer = target.ask(image=picture, prompt="What is this?", max_tokens=32)
        assert (answer.text, answer.finish_reason, answer.served_model) == ("a red dog", "stop", "scripted")
        assert (answer.prompt_tokens, answer.completion_tokens) == (10, 3)
        for fault in ("refusal", "content_filter", "truncated"):
            endpoint.fail_next(fault)
            assert classify(target.ask(image=None, prompt="Hm?", max_tokens=32), max_tokens=32) == fault
        question = endpoint.questions[0]
    assert question.image == picture
    assert question.body["temperature"] == 0
    assert question.body["max_tokens"] == 32
    assert set(question.body) <= {"model", "messages", "temperature", "max_tokens", "extra_body"}
    assert target.model == "proxy/suspect-alias"


def test_a_filtered_answer_is_no_answer_of_the_fallback(proxy_loop: Loop) -> None:
    with ScriptedEndpoint(lambda q: "text", faults=["content_filter"]) as endpoint:
        router = make_router(endpoint.url, content_policy_fallbacks=[{"suspect-alias": ["other"]}])
        with pytest.raises(AskFailure) as caught:
            target_of(router, proxy_loop).ask(image=None, prompt="Hm?", max_tokens=32)
        assert len(endpoint.questions) == 1
    assert (caught.value.kind, caught.value.in_doubt) == ("content_policy", True)


def test_a_probe_cools_no_model_down_and_waits_for_one_that_clients_cooled_down(proxy_loop: Loop) -> None:
    faults: list[Fault | None] = ["rate_limited"] * 4
    with ScriptedEndpoint(lambda q: "text", faults=faults, retry_after="30") as endpoint:
        twice = f"{endpoint.url}/"  # a deployment of its own to the router
        router = make_router(endpoint.url, twice, disable_cooldowns=False, num_retries=0, fallbacks=[])
        target = target_of(router, proxy_loop)
        for _ in range(2):
            with pytest.raises(AskFailure, match="answered HTTP 429"):
                target.ask(image=None, prompt="Hm?", max_tokens=32)
        asked = len(endpoint.questions)
        assert asked == 2, "the model is still there for its clients"

        messages = [{"role": "user", "content": "A client's."}]
        for _ in range(2):
            call = router.acompletion(model="suspect-alias", messages=messages)
            assert asyncio.run_coroutine_threadsafe(call, proxy_loop.loop).exception(20) is not None
        asked = len(endpoint.questions)
        with pytest.raises(AskFailure, match="no deployment of the model be asked") as caught:
            target.ask(image=None, prompt="Hm?", max_tokens=32)
        assert len(endpoint.questions) == asked
    assert (caught.value.kind, caught.value.in_doubt) == ("rate_limited", False)
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0


def test_a_dead_deployment_is_told_from_one_that_may_have_answered(proxy_loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    target = target_of(make_router(f"http://127.0.0.1:{port}/v1"), proxy_loop)
    with pytest.raises(AskFailure) as caught:
        target.ask(image=None, prompt="hi", max_tokens=8)
    assert (caught.value.kind, caught.value.in_doubt) == ("connection", False)


def test_a_proxy_that_stops_leaves_its_question_in_doubt_and_the_next_unsent(proxy_loop: Loop) -> None:
    with ScriptedEndpoint(lambda q: "text", faults=["hang"], hang_s=20) as endpoint:
        target = target_of(make_router(endpoint.url), proxy_loop, timeout_s=20)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(target.ask, image=None, prompt="Hm?", max_tokens=32)
            deadline = time.monotonic() + 20
            while not endpoint.questions:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            proxy_loop.stop()
            error = asking.exception(timeout=10)
        assert isinstance(error, AskFailure)
        assert error.in_doubt
        with pytest.raises(AskFailure, match="the proxy has stopped") as caught:
            target.ask(image=None, prompt="Hm?", max_tokens=32)
        assert (caught.value.kind, caught.value.in_doubt) == ("connection", False)
        assert len(endpoint.questions) == 1


def test_what_must_not_be_asked_is_not(proxy_loop: Loop) -> None:
    with ScriptedEndpoint(lambda q: "text") as endpoint:
        router = make_router(endpoint.url)
        mirrored = make_router(endpoint.url)
        mirrored.model_list[0]["litellm_params"]["silent_model"] = "other"
        for asked, alias, kind, said in (
            (None, "suspect-alias", "connection", "the proxy has no router yet"),
            (router, "typo", "misconfigured", "the proxy has no model typo"),
            (mirrored, "suspect-alias", "misconfigured", "mirrors the questions"),
        ):
            with pytest.raises(AskFailure, match=said) as caught:
                target_of(asked, proxy_loop, alias=alias).ask(image=None, prompt="Hm?", max_tokens=32)
            assert (caught.value.kind, caught.value.in_doubt) == (kind, False)
        assert not endpoint.questions
        assert alias_problem(router, "suspect-alias") is None
        assert alias_warning(router, "suspect-alias") is None


def test_a_key_of_the_proxy_shows_nowhere(proxy_loop: Loop) -> None:
    """Whatever litellm or the endpoint says of it."""

    class Repeating:
        def get_model_list(self, model_name: str) -> list[dict[str, Any]]:
            return [{"model_name": model_name, "litellm_params": {"model": "openai/x", "api_key": KEY}}]

        async def acompletion(self, **question: Any) -> None:
            raise RuntimeError(f"no such key: {KEY}")

    with pytest.raises(AskFailure, match=r"no such key: \*\*\*") as caught:
        target_of(Repeating(), proxy_loop).ask(image=None, prompt="Hm?", max_tokens=32)
    assert KEY not in str(caught.value)
    assert caught.value.in_doubt
    with ScriptedEndpoint(lambda q: f"a dog with {KEY} on it") as endpoint:
        answer = target_of(make_router(endpoint.url), proxy_loop).ask(image=None, prompt="Hm?", max_tokens=32)
    assert answer.text == "a dog with *** on it"
    assert KEY not in json.dumps(answer.raw)


def test_an_alias_of_two_models_is_warned_about() -> None:
    router = make_router("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert alias_warning(router, "suspect-alias") is None, "two servers of one model"
    router.model_list[0]["litellm_params"]["model"] = "openai/y"
    warning = alias_warning(router, "suspect-alias")
    assert warning is not None
    assert "suspect-alias is 2 different models" in warning


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "proxy/"}, "target x: model proxy/ names no model of the proxy"),
        ({"api_base": "http://127.0.0.1:1/v1"}, "target x: api_base: not with model proxy/a"),
        (
            {"api_key_env": "HOME", "headers": {"X-A": "b"}},
            "target x: api_key_env, headers: not with model proxy/a",
        ),
        ({"api_key_file": Path("/dev/null")}, "target x: api_key_file: not with model proxy/a"),
    ],
)
def test_what_is_the_proxys_to_say_is_refused(keys: dict[str, Any], message: str, proxy_loop: Loop) -> None:
    target = TargetConfig(**{"name": "x", "model": "proxy/a", "authorised_by": "a", "purpose": "b"} | keys)
    with pytest.raises(ConfigError) as caught:
        make_router_target(target, router=lambda: None, loop=proxy_loop.loop)
    assert str(caught.value).startswith(message)
