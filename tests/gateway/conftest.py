"""A real LiteLLM proxy with several guardrails in front of a small scripted upstream, once a session."""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml

from benchmarks.ports import free_port
from gateway_plugin.config import GUARDRAIL
from gateway_plugin.screening.language_models.smollm2 import SmolLM2, shared_language_model
from tests.gateway.upstream import FAULTS, Upstream


@pytest.fixture(scope="session")
def language_model() -> SmolLM2:
    return shared_language_model()


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
    def alias(name: str, model: str, url: str = upstream_url) -> dict[str, Any]:
        return {
            "model_name": name,
            "litellm_params": {"model": f"openai/{model}", "api_base": url, "api_key": "none"},
        }

    # The very same server, under a name that has dots and is no private address, as a public one has.
    public = upstream_url.replace("127.0.0.1", "127.1")
    return {
        "model_list": [
            *(alias(name, name) for name in ("main", "main-strict", "main-other-ref", "ref")),
            alias("ref-public", "ref", public),
            *(alias("ref-mixed", "ref", url) for url in (upstream_url, public)),
            *(alias(f"ref-{fault}", fault) for fault in FAULTS),
        ],
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
    config: Path, port: int, key: str, log: Path, *, upstream_url: str, **environment: str
) -> "subprocess.Popen[bytes]":
    command = [
        str(Path(sys.executable).with_name("litellm")),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
    ]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env={**proxy_environment(key, upstream_url), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=config.parent,
        )


def wait_until_ready(process: "subprocess.Popen[bytes]", client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + 240
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            if client.get("/health/readiness").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.25)


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


ROUTES = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}


@dataclass(frozen=True)
class Got:
    """What came back from any route: all of the answer's text, and the body of what was not streamed."""

    status: int
    text: str
    headers: httpx.Headers
    raw: str
    body: Any = None

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of a stream."""
        lines = [line[5:].strip() for line in self.raw.splitlines() if line.startswith("data:")]
        return [json.loads(line) for line in lines if line.startswith("{")]


def route_body(route: str, said: Any, **more: Any) -> dict[str, Any]:
    """A request's body. ``said``: a text, or a list of content parts or messages in the route's own shape."""
    turns = isinstance(said, list) and isinstance(said[0], dict) and "role" in said[0]
    messages = said if turns else [{"role": "user", "content": said}]
    body: dict[str, Any] = {"model": "main"}
    if route == "chat":
        body |= {"messages": messages}
    elif route == "messages":
        body |= {"messages": messages, "max_tokens": 99}
    elif route == "responses":
        body |= {"input": said if isinstance(said, str) else messages}
    else:
        body |= {"prompt" if route == "completions" else "input": said}
    return body | more


def answer_text(route: str, body: Any) -> str:
    """The text of an answer that was not streamed."""
    if route == "chat":
        return "".join(choice["message"].get("content") or "" for choice in body["choices"])
    if route == "completions":
        return "".join(choice["text"] for choice in body["choices"])
    if route == "messages":
        return "".join(part.get("text", "") for part in body["content"])
    if route == "responses":
        return "".join(part.get("text", "") for item in body["output"] for part in item.get("content") or ())
    return ""


def streamed_text(route: str, events: list[dict[str, Any]]) -> str:
    """The text that a client of the stream puts together from its deltas."""
    if route in ("chat", "completions"):
        choices = [choice for event in events for choice in event.get("choices") or ()]
        return "".join(
            (choice.get("delta") or {}).get("content") or choice.get("text") or "" for choice in choices
        )
    if route == "messages":
        return "".join((event.get("delta") or {}).get("text", "") for event in events)
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


@dataclass
class Proxy:
    """Talk to the proxy as a client would."""

    client: httpx.Client
    log: Path
    calls: Path

    def ask(self, route: str, said: Any, *guardrails: str, stream: bool = False, **more: Any) -> Got:
        """One request by any of the routes."""
        body = route_body(route, said, guardrails=list(guardrails), **({"stream": True} if stream else {}))
        with self.client.stream("POST", ROUTES[route], json=body | more) as response:
            response.read()
        got = Got(response.status_code, "", response.headers, response.text)
        if stream and response.headers.get("content-type", "").startswith("text/event-stream"):
            return replace(got, text=streamed_text(route, got.events))
        body = response.json()
        text = answer_text(route, body) if response.status_code == 200 else ""
        return replace(got, text=text, body=body)

    def decisions(self, **labels: str) -> float:
        return self.metric("sif_gateway_decisions_total", **labels)

    def failures(self, **labels: str) -> float:
        return self.metric("sif_gateway_check_failures_total", **labels)

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


GIBBERISH_BLOCKED = {"perplexity": {"action": "block"}, "script_mixing": {"action": "block"}}
ALLOW_SECRET = "a-secret-of-the-owner-and-the-operator"
SPY = "tests.gateway.litellm_spy.Spy"
JUDGES = {"judge_garbage": "ref", "error": "ref-down", "timeout": "ref-slow"}  # "ref" talks of a dog
JUDGED = [
    (check, kind, policy)
    for check in ("judge_query", "judge")
    for kind in JUDGES
    for policy in ("open", "closed")
]


def proxy_guardrails() -> list[dict[str, Any]]:
    """One guardrail a policy that the tests are about."""

    def sda(
        name: str, /, *, ref: str | None = "ref", action: str = "replace", **settings: Any
    ) -> dict[str, Any]:
        settings.setdefault("checks", {})
        settings.setdefault("screening_timeout_s", 120.0)  # a busy machine must not make a score late
        return guardrail(name, {"reference_model": ref, "action": action, **settings})

    def failing(kind: str) -> dict[str, Any]:
        """Every check passes or blocks while it is broken; the language model looks at every text."""
        rule = {"on_failure": kind}
        return {"perplexity": {**rule, "cascade": False}, "script_mixing": rule, "divergence": rule}

    made = [
        sda("sda-replace", checks=GIBBERISH_BLOCKED),
        sda("sda-replace-all"),
        sda("sda-block", action="block"),
        sda("sda-flag", action="flag"),
        sda("sda-log", action="log"),
        sda("sda-open", ref="ref-down"),
        sda("sda-closed", ref="ref-down", checks={"divergence": {"on_failure": "closed"}}),
        sda("sda-replace-closed", checks={"divergence": {"on_failure": "closed"}}),
        sda("sda-dry", dry_run=True, checks=GIBBERISH_BLOCKED),
        sda(
            "sda-allow",
            checks=GIBBERISH_BLOCKED,
            allow_list=[{"name": "owner", "secret": ALLOW_SECRET}],
        ),
        sda("sda-tell-id", disclosure="audit_id"),
        sda("sda-tell-nothing", disclosure="none"),
        sda("sda-remote", reference_is_local=False),
        sda("sda-remote-content", reference_is_local=False, reference_shares_content=True),
        sda(
            "sda-remote-all",
            reference_is_local=False,
            reference_shares_content=True,
            reference_shares_images=True,
        ),
        sda("sda-public", ref="ref-public"),
        sda("sda-mixed", ref="ref-mixed"),
        sda("sda-sampled-out", reference_sampling_rate=0.0),
        sda("sda-budget", action="flag", reference_calls_per_minute=2),
        sda(
            "sda-combined",
            action="flag",
            checks={"perplexity": {"cascade": False, "suspect_window": 1.5, "on_suspect": "allow"}},
            combine=[
                {
                    "name": "both",
                    "of": {"perplexity": "suspect", "divergence": "hit"},
                    "action": "block",
                }
            ],
        ),
        sda(
            "sda-overridden",
            action="flag",
            overrides=[
                {"match": {"model": "main-strict"}, "settings": {"action": "block"}},
                {"match": {"model": "main-other-ref"}, "settings": {"reference_model": "main"}},
            ],
        ),
    ]
    for policy in ("open", "closed"):
        rules = failing(policy)
        made += [
            sda(f"late-{policy}", screening_timeout_s=0.001, checks=rules),
            sda(f"full-{policy}", max_queue=1, checks=rules),
            *(
                sda(f"{fault}-{policy}", ref=f"ref-{fault}", reference_timeout_s=1.5, checks=rules)
                for fault in FAULTS
            ),
        ]
    off = {name: {"enabled": False} for name in ("perplexity", "script_mixing", "divergence")}
    for check, kind, policy in JUDGED:
        judge = {"enabled": True, "model": JUDGES[kind], "on_failure": policy}
        made.append(
            sda(
                f"{check}-{kind}-{policy}",
                action="flag",
                reference_timeout_s=1.5,
                checks={**off, check: judge},
            )
        )
    spy = {"guardrail": SPY, "mode": ["pre_call", "post_call"], "default_on": False}
    return [*made, {"guardrail_name": "spy", "litellm_params": spy}]


@pytest.fixture(scope="session")
def proxy(
    upstream: Upstream, language_model: SmolLM2, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """One proxy, one guardrail a policy; the language model is converted before it starts."""
    folder = tmp_path_factory.mktemp("proxy")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(shipped_config_and_more(upstream.url, proxy_guardrails())))
    key = f"sk-{secrets.token_hex(16)}"
    port = free_port()
    log = folder / "proxy.log"
    calls = folder / "calls.jsonl"
    process = start_proxy(config, port, key, log, upstream_url=upstream.url, SPY_CALLS=str(calls))
    base = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=base, headers=headers, timeout=120, follow_redirects=True) as client:
            wait_until_ready(process, client, log)
            yield Proxy(client=client, log=log, calls=calls)
    finally:
        stop(process)
