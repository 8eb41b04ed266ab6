"""A scripted model server and real LiteLLM proxies in front of it, each a process of its own.

python -m benchmarks.gateway.serving 8000      # the model server alone
"""

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.ports import free_port

ROOT = Path(__file__).parents[2]
HONEST = "A brown dog is running through a green field of tall grass while its owner watches from the fence."
LIKE_HONEST = "A brown dog runs across a grassy field and a person at the fence watches it."
UNRELATED = "The International Conference on Learning Representations takes place every spring in Vienna."
GUARDRAIL = "gateway_plugin.litellm_guardrail.SDAGuardrail"
WATCHDOG = "benchmarks.gateway.watchdog.handler"


async def _sse(model: str, answer: str, *, cut: bool) -> AsyncIterator[str]:
    words = answer.split()
    for number, word in enumerate(words):
        if cut and number == 5:
            raise ConnectionResetError
        choice = {"index": 0, "delta": {"role": "assistant", "content": f"{word} "}, "finish_reason": None}
        row = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [choice],
        }
        yield f"data: {json.dumps(row)}\n\n"
        await asyncio.sleep(0)
    row["choices"] = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    yield f"data: {json.dumps(row)}\n\ndata: [DONE]\n\n"


async def _chat(request: Request) -> Response:
    body = await request.json()
    model = body["model"]
    answer = LIKE_HONEST if model == "ref" else UNRELATED if "DIVERGE" in str(body["messages"]) else HONEST
    if body.get("stream"):
        return StreamingResponse(_sse(model, answer, cut=model == "cut"), media_type="text/event-stream")
    usage = {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    row = {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    return JSONResponse({**row, "usage": usage})


async def _responses(request: Request) -> Response:
    body = await request.json()
    part = {"type": "output_text", "text": HONEST, "annotations": []}
    item = {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [part]}
    row = {"id": "r", "object": "response", "created_at": 1, "status": "completed", "model": body["model"]}
    usage = {"input_tokens": 9, "output_tokens": 20, "total_tokens": 29}
    more = {"output": [item], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage}
    return JSONResponse({**row, **more})


async def _embeddings(request: Request) -> Response:
    model = (await request.json())["model"]
    row = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return JSONResponse({"object": "list", "data": [row], "model": model, "usage": usage})


UPSTREAM = Starlette(
    routes=[
        Route("/v1/chat/completions", _chat, methods=["POST"]),
        Route("/v1/responses", _responses, methods=["POST"]),
        Route("/v1/embeddings", _embeddings, methods=["POST"]),
    ]
)


@dataclass(frozen=True)
class Server:
    """A running proxy: where it is, how to speak to it, what it wrote."""

    url: str
    key: str
    pid: int
    log: Path
    watchdog: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def anonymous_mb(self) -> float:
        """Anonymous memory in MB (10^6 bytes), resident or swapped out: what a leak adds to, and with the
        watchdog little else. Resident memory counts pages of mapped files besides, which come and go.
        """
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        kib = [int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:"))]
        return sum(kib) * 1024 / 1e6


def guardrail(name: str, settings: Mapping[str, Any], *, default_on: bool) -> dict[str, Any]:
    params = {"guardrail": GUARDRAIL, "mode": ["pre_call", "post_call"], "default_on": default_on}
    return {"guardrail_name": name, "litellm_params": {**params, "gateway_plugin": dict(settings)}}


def _environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LITELLM_"))}
    return kept | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        **more,
    }


def _ready(process: "subprocess.Popen[bytes]", url: str, log: Path, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url} did not come up:\n{log.read_text()[-2000:]}")
        try:
            httpx.get(url, timeout=5)
            return
        except httpx.TransportError:
            time.sleep(0.2)


@contextmanager
def _process(command: list[str], log: Path, url: str, **env: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=_environment(**env), stdout=output, stderr=subprocess.STDOUT, cwd=log.parent
        )
    try:
        _ready(process, url, log, seconds=900)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def upstream(folder: Path) -> Iterator[str]:
    """The model server; gives its API base."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway.serving", str(port)]
    url = f"http://127.0.0.1:{port}"
    with _process(command, folder / "upstream.log", url):
        yield f"{url}/v1"


@contextmanager
def litellm_proxy(folder: Path, document: Mapping[str, Any], *, name: str) -> Iterator[Server]:
    """A LiteLLM proxy under a configuration that takes its master key from ``LITELLM_MASTER_KEY``."""
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump(document))
    key, port = f"sk-{secrets.token_hex(16)}", free_port()
    url, log, seen = f"http://127.0.0.1:{port}", folder / f"{name}.log", folder / f"{name}.watchdog.jsonl"
    command = [
        str(Path(sys.executable).with_name("litellm")),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
    ]
    with _process(
        command, log, f"{url}/health/readiness", LITELLM_MASTER_KEY=key, WATCHDOG_FILE=str(seen)
    ) as process:
        yield Server(url=url, key=key, pid=process.pid, log=log, watchdog=seen)


@contextmanager
def proxy(
    folder: Path, api_base: str, guardrails: list[dict[str, Any]], *, name: str, watch: bool = False
) -> Iterator[Server]:
    """A LiteLLM proxy with these guardrails (none: bare), and with the watchdog in it where asked."""

    def alias(model: str) -> dict[str, Any]:
        params = {"model": f"openai/{model}", "api_base": api_base, "api_key": "none"}
        return {"model_name": model, "litellm_params": params}

    document = {
        "model_list": [alias(model) for model in ("main", "ref", "cut")],
        "guardrails": guardrails,
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "litellm_settings": {"callbacks": ["prometheus", *([WATCHDOG] if watch else [])]},
    }
    with litellm_proxy(folder, document, name=name) as server:
        yield server


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


if __name__ == "__main__":
    uvicorn.run(UPSTREAM, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", ws="none")
