"""A real LiteLLM proxy with several guardrails in front of a small scripted upstream, once a session."""

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from gateway_plugin.config import GUARDRAIL
from gateway_plugin.screening.language_model import SmolLM2, shared_language_model

HONEST = "A brown dog is running through a green field of tall grass while its owner watches from the fence."
LIKE_HONEST = "A brown dog runs across a grassy field and a person at the fence watches it."
UNRELATED = "The International Conference on Learning Representations takes place every spring in Vienna."


@pytest.fixture(scope="session")
def language_model() -> SmolLM2:
    return shared_language_model()


@dataclass
class Upstream:
    """An OpenAI-compatible server. A query that says DIVERGE gets an unrelated answer from the main model."""

    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Any:
            body = await request.json()
            model = body["model"]
            self.asked[model] += 1
            self.bodies.append(body)
            if model == "down":
                return JSONResponse({"error": {"message": "out of memory"}}, status_code=503)
            said = str(body["messages"])
            answer = LIKE_HONEST if model == "ref" else UNRELATED if "DIVERGE" in said else HONEST
            if body.get("tools"):
                return JSONResponse(completion(model, UNRELATED))
            if body.get("stream"):
                return StreamingResponse(chunks(model, answer), media_type="text/event-stream")
            return JSONResponse(completion(model, answer))

        @app.post("/v1/responses")  # LiteLLM sends /v1/messages of an openai/ model here as well
        async def responses(request: Request) -> Any:
            body = await request.json()
            self.asked[body["model"]] += 1
            self.bodies.append(body)
            return response_object(body["model"], UNRELATED if "DIVERGE" in str(body["input"]) else HONEST)

        return app


def response_object(model: str, answer: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": answer, "annotations": []}
    message = {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [part]}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": model,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {"input_tokens": 9, "output_tokens": 20, "total_tokens": 29},
    }


def completion(model: str, answer: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29},
    }


def chunks(model: str, answer: str) -> Iterator[str]:
    import json

    words = [f"{word} " for word in answer.split()]
    deltas: list[dict[str, str]] = [
        {"role": "assistant", "content": ""},
        *({"content": w} for w in words),
        {},
    ]
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
        row = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [choice],
        }
        yield f"data: {json.dumps(row)}\n\n"
    yield "data: [DONE]\n\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    state = Upstream()
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(state.app(), host="127.0.0.1", port=port, log_level="error", ws="none")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started
    state.url = f"http://127.0.0.1:{port}/v1"
    yield state
    server.should_exit = True
    thread.join(timeout=10)


def guardrail(name: str, settings: dict[str, Any], **params: Any) -> dict[str, Any]:
    return {
        "guardrail_name": name,
        "litellm_params": {
            "guardrail": GUARDRAIL,
            "mode": ["pre_call", "post_call"],
            "default_on": False,
            "gateway_plugin": settings,
            **params,
        },
    }


def proxy_config(upstream_url: str, guardrails: list[dict[str, Any]]) -> dict[str, Any]:
    def alias(name: str, model: str) -> dict[str, Any]:
        params = {"model": f"openai/{model}", "api_base": upstream_url, "api_key": "none"}
        return {"model_name": name, "litellm_params": params}

    return {
        "model_list": [alias("main", "main"), alias("ref", "ref"), alias("ref-down", "down")],
        "guardrails": guardrails,
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "litellm_settings": {"callbacks": ["prometheus"]},
    }


SHIPPED = Path(__file__).parents[2] / "deploy" / "litellm" / "config.yaml"


def shipped_config_and_more(upstream_url: str, guardrails: list[dict[str, Any]]) -> dict[str, Any]:
    """The operator's copy, but not on for every request, beside the guardrails and aliases of the tests."""
    shipped: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    shipped["guardrails"][0]["litellm_params"]["default_on"] = False
    more = proxy_config(upstream_url, guardrails)
    shipped["guardrails"] += more["guardrails"]
    shipped["model_list"] += [row for row in more["model_list"] if row["model_name"] != "main"]
    return shipped


def proxy_environment(key: str, upstream_url: str) -> dict[str, str]:
    names = ("MAIN", "REFERENCE")
    return {
        **{f"{name}_API_BASE": upstream_url for name in names},
        **{f"{name}_API_KEY": "none" for name in names},
        "MAIN_MODEL": "openai/main",
        "REFERENCE_MODEL": "openai/ref",
        **{k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LITELLM_"))},
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
    }


def start_proxy(
    config: Path, port: int, key: str, log: Path, *, upstream_url: str
) -> "subprocess.Popen[bytes]":
    command = [
        str(Path(sys.executable).with_name("litellm")),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
    ]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env=proxy_environment(key, upstream_url),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=config.parent,
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class Proxy:
    """Talk to the proxy as a client would."""

    client: httpx.Client
    log: Path

    def chat(self, text: Any, guardrail: str, *, model: str = "main", **body: Any) -> httpx.Response:
        return self.client.post(
            "/v1/chat/completions",
            json={
                "model": model,
                "messages": [{"role": "user", "content": text}],
                "guardrails": [guardrail],
                **body,
            },
        )

    def answer(self, text: Any, guardrail: str, **body: Any) -> str:
        response = self.chat(text, guardrail, **body)
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["message"]["content"])

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all series of the name that carry these labels."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.client.get("/metrics/").raise_for_status().text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture(scope="session")
def proxy(
    upstream: Upstream, language_model: SmolLM2, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """One proxy, one guardrail a policy; the language model is converted before it starts."""
    folder = tmp_path_factory.mktemp("proxy")
    gibberish = {"perplexity": {"action": "block"}, "script_mixing": {"action": "block"}}
    guardrails = [
        guardrail("sda-replace", {"reference_model": "ref", "action": "replace", "checks": gibberish}),
        guardrail("sda-replace-all", {"reference_model": "ref", "action": "replace"}),
        guardrail("sda-block", {"reference_model": "ref", "action": "block"}),
        guardrail("sda-flag", {"reference_model": "ref", "action": "flag"}),
        guardrail("sda-log", {"reference_model": "ref", "action": "log"}),
        guardrail("sda-open", {"reference_model": "ref-down", "action": "replace"}),
        guardrail(
            "sda-closed",
            {
                "reference_model": "ref-down",
                "action": "replace",
                "checks": {"divergence": {"on_failure": "closed"}},
            },
        ),
    ]
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(shipped_config_and_more(upstream.url, guardrails)))
    key = f"sk-{secrets.token_hex(16)}"
    port = free_port()
    log = folder / "proxy.log"
    process = start_proxy(config, port, key, log, upstream_url=upstream.url)
    base = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=base, headers=headers, timeout=120, follow_redirects=True) as client:
            deadline = time.monotonic() + 240
            while True:
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                try:
                    if client.get("/health/readiness").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.25)
            yield Proxy(client=client, log=log)
    finally:
        stop(process)
