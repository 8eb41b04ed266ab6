"""SDA end to end on the lab: what a real LiteLLM proxy with the guardrail does with each kind of trigger.

    python -m benchmarks.gateway.sda --pack PACK [--triggers 12] [--json]

The lab owner serves, another lab model is the reference, and the guardrail replaces diverging answers. Asked
are triggers of the Ordinary attack and of PLA (forged here), of a SIF pack, and clean photos; on each of
the three chat routes, streamed and not. An answer counts as replaced by the guardrail's own header.
"""

import argparse
import base64
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks.gateway import serving
from sif_offline.baselines.testing import targeted_triggers
from sif_offline.fingerprint.pack import read_pack
from sif_offline.lab.server import Engine, build_app, serve_in_thread
from sif_offline.models import load_adapter
from sif_offline.suspects import make_suspect

ROUTES = ("chat", "responses", "messages")


@dataclass(frozen=True)
class Question:
    """A picture and a prompt, and what kind of query they are."""

    kind: str
    png: bytes
    prompt: str


@dataclass(frozen=True)
class Reply:
    """What the client got."""

    text: str
    replaced: bool


class Proxy:
    """A client of the running proxy."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, question: Question, *, route: str, stream: bool) -> Reply:
        """One exchange; raises ``httpx.HTTPStatusError`` for anything but a 200."""
        path, body = _request(question, route)
        with self._client.stream("POST", path, json={**body, "stream": stream}) as response:
            raw = response.read().decode()
            response.raise_for_status()
            replaced = response.headers.get("x-sif-gateway-replaced") == "true"
        return Reply(text=_text(raw, route, stream=stream), replaced=replaced)


def _request(question: Question, route: str) -> tuple[str, dict[str, Any]]:
    data = base64.b64encode(question.png).decode()
    url = f"data:image/png;base64,{data}"
    if route == "chat":
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question.prompt}]
        return "/v1/chat/completions", {"model": "main", "messages": [{"role": "user", "content": parts}]}
    if route == "responses":
        parts = [
            {"type": "input_image", "image_url": url},
            {"type": "input_text", "text": question.prompt},
        ]
        return "/v1/responses", {"model": "main", "input": [{"role": "user", "content": parts}]}
    source = {"type": "base64", "media_type": "image/png", "data": data}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": question.prompt}]
    messages = [{"role": "user", "content": parts}]
    return "/v1/messages", {"model": "main", "max_tokens": 200, "messages": messages}


def _text(raw: str, route: str, *, stream: bool) -> str:
    if not stream:
        body = json.loads(raw)
        if route == "chat":
            return str(body["choices"][0]["message"]["content"])
        if route == "responses":
            return "".join(
                part["text"]
                for item in body["output"]
                for part in item.get("content") or ()
                if "text" in part
            )
        return "".join(part.get("text", "") for part in body["content"])
    rows = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    if route == "chat":
        return "".join(c["delta"].get("content") or "" for row in rows for c in row.get("choices", ()))
    if route == "responses":
        return "".join(row["delta"] for row in rows if row.get("type") == "response.output_text.delta")
    return "".join(row["delta"].get("text", "") for row in rows if row.get("type") == "content_block_delta")


@contextlib.contextmanager
def served(*, folder: Path, reference: str = "innocent-c") -> Iterator[Proxy]:
    """The lab owner and the reference behind a proxy of their own, until the block ends."""
    with contextlib.ExitStack() as stack:
        urls = {}
        for name in ("owner", reference):
            app = build_app(Engine(*make_suspect("", name).load()), model_name=name)
            urls[name] = stack.enter_context(serve_in_thread(app))
        settings = {
            "preset": "paper",
            "reference_model": "reference",
            "action": "replace",
            "checks": {"perplexity": {"action": "block"}, "script_mixing": {"action": "block"}},
        }
        aliases = {"main": "owner", "reference": reference}
        config = {
            "model_list": [
                {
                    "model_name": alias,
                    "litellm_params": {
                        "model": f"hosted_vllm/{name}",
                        "api_base": f"{urls[name]}/v1",
                        "api_key": "none",
                        "use_chat_completions_api": True,  # the lab server has no /v1/responses
                    },
                }
                for alias, name in aliases.items()
            ],
            "guardrails": [serving.guardrail("sda", settings, default_on=True)],
            "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        }
        server = stack.enter_context(serving.litellm_proxy(folder, config, name="proxy"))
        client = httpx.Client(base_url=server.url, headers=server.headers, timeout=300)
        yield Proxy(stack.enter_context(client))


def questions(pack_folder: Path, *, count: int) -> list[Question]:
    """``count`` of each kind: ordinary, pla, sif, and the clean twins of the SIF triggers."""
    found = [
        Question(trigger.method, trigger.png, trigger.target.question)
        for trigger in targeted_triggers(load_adapter("lab:owner"), count=count)
    ]
    pack = read_pack(pack_folder)
    for row in pack.triggers[:count]:
        found.append(Question("sif", pack.trigger_bytes(row), row.prompt))
        found.append(Question("clean", pack.clean_bytes(row), row.prompt))
    return found


def measure(proxy: Proxy, asked: Sequence[Question]) -> dict[str, dict[str, tuple[int, int]]]:
    """Kind to way (route, streamed or not) to (replaced, asked)."""
    replaced: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    for question in asked:
        for route in ROUTES:
            for stream in (False, True):
                way = f"{route}, streamed" if stream else route
                total[question.kind, way] += 1
                replaced[question.kind, way] += proxy.ask(question, route=route, stream=stream).replaced
    table: dict[str, dict[str, tuple[int, int]]] = {}
    for kind, way in total:
        table.setdefault(kind, {})[way] = (replaced[kind, way], total[kind, way])
    return table


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pack", type=Path, required=True, help="a SIF pack of lab:owner (sif forge)")
    parser.add_argument("--triggers", type=int, default=12, help="of each kind")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the proxy's configuration and log"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    asked = questions(arguments.pack, count=arguments.triggers)
    with served(folder=arguments.out) as proxy:
        table = measure(proxy, asked)
    if arguments.json:
        sys.stdout.write(json.dumps(table) + "\n")
        return
    ways = list(next(iter(table.values())))
    sys.stdout.write(f"| replaced | {' | '.join(ways)} |\n|---|{'---|' * len(ways)}\n")
    for kind, cells in table.items():
        shown = [f"{cells[way][0]} of {cells[way][1]}" for way in ways]
        sys.stdout.write(f"| {kind} | {' | '.join(shown)} |\n")


if __name__ == "__main__":
    main()
