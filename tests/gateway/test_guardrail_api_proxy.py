"""The service of the Generic Guardrail API behind a real LiteLLM proxy."""

import json
import os
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml

from benchmarks.ports import free_port
from gateway_plugin.guardrail_api import create_app
from gateway_plugin.service_config import read_service_configuration
from sif_offline.fingerprint.allow_header import Signer
from tests.gateway.conftest import ALLOW_SECRET, start_proxy, stop, wait_until_ready
from tests.gateway.upstream import HONEST, LIKE_HONEST
from tests.gateway.words import GIBBERISH, QUESTION, metric, words

ROOT = Path(__file__).parents[2]
UNRELATED = "The International Conference"


class Behind:
    """A real proxy whose only guardrail is the service."""

    def __init__(self, client: httpx.Client, service: str) -> None:
        self.client, self._service = client, service

    def chat(self, text: Any, **more: Any) -> httpx.Response:
        headers = more.pop("headers", {})
        body = {"model": "main", "messages": [{"role": "user", "content": text}], **more}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def metric(self, name: str, **labels: str) -> float:
        with httpx.Client(base_url=self._service) as client:
            return metric(client, name, **labels)


@pytest.fixture(scope="session")
def behind(upstream: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """The shipped configuration of the proxy, and a service under ``replace``."""
    folder, key, service_key = tmp_path_factory.mktemp("generic"), *(secrets.token_hex(16) for _ in range(2))
    os.environ["SIF_TEST_BEHIND"] = service_key
    document = {
        "gateway_plugin": {
            "reference_model": "reference",
            "action": "replace",
            "checks": {"perplexity": {"action": "block"}},
            "allow_list": [{"name": "owner", "secret": ALLOW_SECRET}],
            "overrides": [{"match": {"model": "main-blocked"}, "settings": {"action": "block"}}],
        },
        "models": {"reference": {"model": "ref", "api_base": upstream.url}},
        "service": {"api_keys": ["os.environ/SIF_TEST_BEHIND"]},
    }
    service = read_service_configuration(yaml.safe_dump(document), name="behind")
    port, service_port = free_port(), free_port()
    app = create_app(service, screeners=words)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=service_port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    config, log = folder / "config.yaml", folder / "proxy.log"
    shipped = yaml.safe_load((ROOT / "deploy" / "litellm" / "config-generic.yaml").read_text())
    shipped["model_list"].append({**shipped["model_list"][0], "model_name": "main-blocked"})
    config.write_text(yaml.safe_dump(shipped))
    os.environ |= {"SIF_GATEWAY_URL": f"http://127.0.0.1:{service_port}", "SIF_GATEWAY_API_KEY": service_key}
    process = start_proxy(config, port, f"sk-{key}", log, upstream_url=upstream.url)
    headers = {"Authorization": f"Bearer sk-{key}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as client:
            wait_until_ready(process, client, log)
            yield Behind(client, f"http://127.0.0.1:{service_port}")
    finally:
        stop(process)
        server.should_exit = True
        thread.join(timeout=10)


def streamed(response: httpx.Response) -> str:
    rows = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    choices = [choice for row in rows for choice in row.get("choices") or ()]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_behind_a_proxy_honest_traffic_passes(behind: Behind) -> None:
    answer = behind.chat(QUESTION)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == HONEST
    assert streamed(behind.chat(QUESTION, stream=True)).rstrip() == HONEST


def test_behind_a_proxy_gibberish_is_a_clean_400(behind: Behind, upstream: Any) -> None:
    asked = upstream.asked.total()
    for more in ({}, {"stream": True}):
        refused = behind.chat(GIBBERISH, **more)
        assert refused.status_code == 400
        assert "refused by the gateway's screening (perplexity)" in refused.text
    assert upstream.asked.total() == asked


def test_behind_a_proxy_a_diverging_answer_is_replaced_streamed_or_not(behind: Behind) -> None:
    answer = behind.chat(f"DIVERGE {QUESTION}")
    assert answer.json()["choices"][0]["message"]["content"] == LIKE_HONEST
    stream = behind.chat(f"DIVERGE {QUESTION}", stream=True)
    assert streamed(stream) == LIKE_HONEST
    assert "Vienna" not in stream.text


def test_behind_a_proxy_a_diverging_answer_is_blocked_where_an_override_says_so(behind: Behind) -> None:
    """The service knows the alias that was asked for in both phases; the answer names the model behind."""
    for more in ({}, {"stream": True}):
        assert behind.chat(QUESTION, model="main-blocked", **more).status_code == 200
        blocked = behind.chat(f"DIVERGE {QUESTION}", model="main-blocked", **more)
        assert "refused by the gateway's screening (divergence)" in blocked.text
        assert blocked.status_code == 400
        assert "Vienna" not in blocked.text


def test_behind_a_proxy_other_routes_are_replaced_where_they_are_not_streamed(behind: Behind) -> None:
    turn = {"role": "user", "content": f"DIVERGE {QUESTION}"}
    messages = {"model": "main", "max_tokens": 99, "messages": [turn]}
    responses = {"model": "main", "input": f"DIVERGE {QUESTION}"}
    for path, body in (("/v1/messages", messages), ("/v1/responses", responses)):
        replaced = behind.client.post(path, json=body)
        assert replaced.status_code == 200, replaced.text
        assert LIKE_HONEST in replaced.text
        assert "Vienna" not in replaced.text


def test_behind_a_proxy_an_owners_signed_probe_passes(behind: Behind) -> None:
    body = {"model": "main", "messages": [{"role": "user", "content": f"DIVERGE {GIBBERISH}"}]}
    signed = Signer(name="owner", secret=ALLOW_SECRET.encode()).headers(body)
    answer = behind.chat(f"DIVERGE {GIBBERISH}", headers=signed)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"].startswith(UNRELATED)


def test_behind_a_proxy_calls_with_one_id_are_not_confused(behind: Behind) -> None:
    same = {"headers": {"x-litellm-call-id": "11111111-1111-1111-1111-111111111111"}}
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda text: behind.chat(text, **same), [f"DIVERGE {QUESTION}", QUESTION] * 2)
        )
    for answer in answers:
        if answer.status_code == 200:
            assert "Vienna" not in answer.text
        else:
            assert "This call id is in use" in answer.text


def test_behind_a_proxy_no_call_is_unknown(behind: Behind) -> None:
    """Both phases of every call so far were bound to each other."""
    assert behind.metric("sif_gateway_check_failures_total", kind="unknown_call") == 0
