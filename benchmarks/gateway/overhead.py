"""What the guardrail adds to a LiteLLM proxy, as ratios to the bare proxy in paired, interleaved rounds.

    python -m benchmarks.gateway.overhead --rounds 9 --requests 200

Two proxies run side by side, one without guardrails. A round sends the same number of requests to each in
turn, the order changing from round to round; a ratio is taken within a round, so that a machine that slows
down slows both. Reported is the median over rounds and their range. ``cpu`` is the ratio of the proxies' own
processor time, which a busy machine blurs least. The model server answers at once, so the ratios are the
highest that a user can meet: beside a real model's seconds they vanish.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from benchmarks.gateway import serving
from benchmarks.gateway.traffic import question

QUERIES_ONLY: dict[str, Any] = {"divergence": {"enabled": False}}
NEURAL_ONLY: dict[str, Any] = {**QUERIES_ONLY, "perplexity": {"cascade": False}}


@dataclass(frozen=True)
class Condition:
    """One row of the table.

    settings: of the guardrail; ``None`` for one that does nothing.
    fresh: every question is new, so that nothing is remembered.
    """

    name: str
    settings: dict[str, Any] | None
    fresh: bool
    modes: tuple[str, ...] = ("pre_call", "post_call")

    @property
    def guardrail(self) -> str:
        """Its name in the proxy: no comma, since LiteLLM lists the names in a header."""
        return self.name.replace(",", "").replace(" ", "-")

    def row(self) -> dict[str, Any]:
        """The guardrail in the proxy's configuration, for requests that name it."""
        row = serving.guardrail(self.guardrail, self.settings or {}, default_on=False)
        params = row["litellm_params"]
        params["mode"] = list(self.modes)
        if self.settings is None:
            del params["gateway_plugin"]
            params["guardrail"] = "benchmarks.gateway.noop.Noop"
        return row


CONDITIONS = (
    Condition("a guardrail that does nothing", None, fresh=True),
    Condition("queries, known", {"checks": QUERIES_ONLY}, fresh=False, modes=("pre_call",)),
    Condition("queries, new, cheap path first", {"checks": QUERIES_ONLY}, fresh=True, modes=("pre_call",)),
    Condition("queries, new, neural path", {"checks": NEURAL_ONLY}, fresh=True, modes=("pre_call",)),
    Condition("queries and answers, known", {"reference_model": "ref"}, fresh=False),
    Condition("queries and answers, new", {"reference_model": "ref"}, fresh=True),
)


@dataclass(frozen=True)
class Turn:
    """One proxy's part of a round."""

    seconds: list[float]
    wall: float
    cpu: float

    def measures(self) -> dict[str, float]:
        ordered = sorted(self.seconds)
        return {
            "p50": statistics.median(ordered),
            "p99": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
            "throughput": len(ordered) / self.wall,
            "cpu": self.cpu / len(ordered),
        }


def cpu_seconds(pid: int) -> float:
    """Processor time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def turn(server: serving.Server, bodies: list[dict[str, Any]], *, clients: int) -> Turn:
    """All bodies, ``clients`` at a time over connections that stay open."""
    waiting, seconds = iter(bodies), []

    async def client(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            began = time.perf_counter()
            async with session.post(f"{server.url}/v1/chat/completions", json=body) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(f"{response.status}: {(await response.text())[:300]}")
            seconds.append(time.perf_counter() - began)

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(headers=server.headers, connector=connector) as session:
        cpu, began = cpu_seconds(server.pid), time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        return Turn(seconds, time.perf_counter() - began, cpu_seconds(server.pid) - cpu)


def questions(*, fresh: bool, seed: int) -> Iterator[str]:
    """Endless; of 20 where ``fresh`` is false, else never the same twice."""
    rng = random.Random(seed)
    for number in itertools.count():
        yield question(rng, distinct=20) if not fresh else f"{question(rng, distinct=10**9)} Part {number}."


def body(text: str, *guardrails: str) -> dict[str, Any]:
    more: dict[str, Any] = {"guardrails": list(guardrails)} if guardrails else {}
    return {"model": "main", "messages": [{"role": "user", "content": text}], **more}


def counter(server: serving.Server, name: str) -> float:
    """A counter of the proxy, summed over its labels."""
    text = httpx.get(f"{server.url}/metrics/", headers=server.headers, follow_redirects=True, timeout=30).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


async def compare(
    bare: serving.Server,
    guarded: serving.Server,
    condition: Condition,
    *,
    clients: int,
    rounds: int,
    requests: int,
    seed: int,
) -> dict[str, Any]:
    """Median and range over rounds of guarded / bare; below 1 a throughput is lower, a time shorter."""
    texts = questions(fresh=condition.fresh, seed=seed)
    ratios: dict[str, list[float]] = {"p50": [], "p99": [], "throughput": [], "cpu": []}
    cheap = "sif_gateway_cheap_decisions_total"
    decided = 0.0
    for number in range(rounds + 1):
        batch = [next(texts) for _ in range(requests)]
        jobs = [(guarded, [body(t, condition.guardrail) for t in batch]), (bare, [body(t) for t in batch])]
        if number == 1:
            decided = counter(guarded, cheap)
        made = {}
        for server, bodies in jobs if number % 2 else reversed(jobs):
            made[server.url] = (await turn(server, bodies, clients=clients)).measures()
        if number:  # the first round warms both up
            ours, plain = made[guarded.url], made[bare.url]
            for name, values in ratios.items():
                values.append(ours[name] / plain[name])
    share = (counter(guarded, cheap) - decided) / (rounds * requests)
    return {
        "condition": condition.name,
        "clients": clients,
        "cheap_path_decided": round(share, 3),
        **{
            name: {
                "median": round(statistics.median(values), 3),
                "low": round(min(values), 3),
                "high": round(max(values), 3),
            }
            for name, values in ratios.items()
        },
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every condition with every number of clients."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            serving.upstream(folder) as api_base,
            serving.proxy(folder, api_base, [], name="bare") as bare,
            serving.proxy(folder, api_base, [c.row() for c in CONDITIONS], name="guarded") as guarded,
        ):
            for clients, condition in itertools.product(arguments.clients, CONDITIONS):
                row = asyncio.run(
                    compare(
                        bare,
                        guarded,
                        condition,
                        clients=clients,
                        rounds=arguments.rounds,
                        requests=max(arguments.requests, 4 * clients),
                        seed=arguments.seed + clients,
                    )
                )
                rows.append({**row, "load": round(os.getloadavg()[0], 1)})
                sys.stderr.write(json.dumps(rows[-1]) + "\n")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"machine": machine, "rounds": arguments.rounds, "requests": arguments.requests, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        "| condition | clients | p50 | p99 | throughput | CPU time | decided by the cheap path | load |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        cells = [
            f"{row[name]['median']:.2f} ({row[name]['low']:.2f}-{row[name]['high']:.2f})"
            for name in ("p50", "p99", "throughput", "cpu")
        ]
        share = f"{100 * row['cheap_path_decided']:.0f} %"
        lines.append(
            f"| {row['condition']} | {row['clients']} | {' | '.join(cells)} | {share} | {row['load']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=200, help="a proxy and round; at least 4 a client")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seed", type=int, default=20_261_122)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(table(result) + "\n")


if __name__ == "__main__":
    main()
