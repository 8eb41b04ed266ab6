"""Load with hostile shapes against a real proxy: errors, memory, stalls of the event loop.

    python -m benchmarks.gateway.soak --requests 30000 --json runs/gateway-soak.json

The same traffic goes to a proxy with the guardrail and, ``--bare-requests`` of it, to one without: what
LiteLLM does itself with such requests is not the guardrail's. Figures are counts and MB, not seconds.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gateway import serving
from benchmarks.gateway.traffic import Sent, request_number

SETTINGS: dict[str, Any] = {
    "reference_model": "ref",
    "action": "replace",
    "checks": {"perplexity": {"action": "block"}, "script_mixing": {"action": "block"}},
    "screening_timeout_s": 100.0,  # a busy machine must not let gibberish pass by failing open
}
DEADLINE_S = 120.0
SLOW_S = 2.0  # how long a slow client takes over its body
LAST_SHARE = 0.1


@dataclass
class Seen:
    """What one run showed."""

    statuses: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unexpected: Counter[str] = field(default_factory=Counter)
    anonymous_mb: list[tuple[int, float]] = field(default_factory=list)

    def server_errors(self) -> dict[str, int]:
        """Answers 5xx, and connections without an answer, by shape."""
        return {
            kind: count
            for kind, counts in sorted(self.statuses.items())
            if (count := sum(n for status, n in counts.items() if status[0] == "5" or status == "none"))
        }


async def send(sent: Sent, server: serving.Server) -> str:
    """The status of the answer, read to its end; ``left`` where we hung up, ``none`` where none came."""
    host, port = server.address
    head = (
        f"POST {sent.path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {server.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(sent.body)}\r\nconnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(head.encode())
        if sent.manner == "slow":
            step = max(1, len(sent.body) // 10)
            for start in range(0, len(sent.body), step):
                writer.write(sent.body[start : start + step])
                await writer.drain()
                await asyncio.sleep(SLOW_S / 10)
        else:
            writer.write(sent.body)
            await writer.drain()
        line = await reader.readline()
        if sent.manner == "leave":
            return "left"
        while await reader.read(65_536):
            if sent.manner == "slow":
                await asyncio.sleep(0.05)
        return line.split()[1].decode() if line else "none"
    except (ConnectionError, IndexError):
        return "none"
    finally:
        writer.close()


async def drive(
    server: serving.Server, *, requests: int, clients: int, seed: int, hostile: float, distinct: int
) -> Seen:
    """All requests, ``clients`` at a time."""
    seen, numbers = Seen(), iter(range(requests))
    every = max(1, requests // 300)

    async def client() -> None:
        for number in numbers:
            sent = request_number(number, seed=seed, hostile=hostile, distinct=distinct)
            try:
                async with asyncio.timeout(DEADLINE_S):
                    status = await send(sent, server)
            except TimeoutError:
                status = "late"
            seen.statuses[sent.kind][status] += 1
            if sent.expected is not None and status not in {str(code) for code in sent.expected}:
                seen.unexpected[f"{sent.kind}: {status}"] += 1
            if number % every == 0:
                seen.anonymous_mb.append((number, server.anonymous_mb()))

    await asyncio.gather(*(client() for _ in range(clients)))
    seen.anonymous_mb.append((requests, server.anonymous_mb()))
    return seen


def memory(seen: Seen, *, requests: int) -> dict[str, float]:
    """MB of anonymous memory after 30 % of the requests and at the end (medians over 10 % of them each), and
    the growth between the two."""

    def around(low: float, high: float) -> float:
        values = [mb for number, mb in seen.anonymous_mb if low * requests <= number <= high * requests]
        return statistics.median(values)

    start, end = around(0.3, 0.4), around(1 - LAST_SHARE, 1.0)
    per_thousand = (end - start) / (0.6 * requests) * 1e3
    return {"steady_mb": start, "end_mb": end, "growth_mb_per_1000_requests": per_thousand}


def stalls(path: Path) -> dict[str, Any]:
    """Stalls of the loop over 50 ms, by cause.

    ``steps_of_the_guardrail`` are those of its own hook, without ``collections``: those of the garbage.
    """
    written = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = [row for row in written if "late_ms" in row]
    stacks: Counter[str] = Counter()
    for row in rows:
        stacks.update(row["stacks"])
    return {
        "all": len(rows),
        "longest_ms": max((row["late_ms"] for row in rows), default=0.0),
        "steps_of_the_guardrail": [row["step_ms"] for row in written if "step_ms" in row],
        "collections": [row["collection_ms"] for row in written if "collection_ms" in row],
        "waiting_for_lock_or_call": sum(row["waited_ms"] > 50 for row in rows),
        "machine_busy": sum(row["queued_ms"] > 50 for row in rows),
        "stacks": dict(stacks.most_common(12)),
    }


def tracebacks(log: Path) -> dict[str, int]:
    """Tracebacks in the proxy's log, and how many of them name the gateway's own code: the layer for headers
    stands below every request and is left out."""
    blocks = log.read_text(errors="replace").split("Traceback (most recent call last)")[1:]
    own = re.compile(r"/gateway_plugin/(?!litellm_headers)")
    wrong = [block for block in blocks if own.search(block) and "QueryBlockedError" not in block]
    ours = [block for block in wrong if "ModifyResponseException" not in block]
    return {"all": len(blocks), "through_our_code": len(ours)}


def run(arguments: argparse.Namespace, folder: Path, *, guarded: bool) -> dict[str, Any]:
    """One proxy, one run."""
    requests = arguments.requests if guarded else arguments.bare_requests
    name = "guarded" if guarded else "bare"
    rows = [serving.guardrail("sda", SETTINGS, default_on=True)] if guarded else []
    with (
        serving.upstream(folder) as api_base,
        serving.proxy(folder, api_base, rows, name=name, watch=True) as server,
    ):
        seen = asyncio.run(
            drive(
                server,
                requests=requests,
                clients=arguments.clients,
                seed=arguments.seed,
                hostile=arguments.hostile,
                distinct=arguments.distinct,
            )
        )
        return {
            "requests": requests,
            "statuses": {kind: dict(counts) for kind, counts in sorted(seen.statuses.items())},
            "server_errors": seen.server_errors(),
            "unexpected": dict(seen.unexpected) if guarded else {},
            "memory": memory(seen, requests=requests),
            "stalls": stalls(server.watchdog),
            "tracebacks": tracebacks(server.log),
        }


def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both runs. ``only_guarded``: shapes with server errors that the bare proxy does not have."""
    with tempfile.TemporaryDirectory() as folder:
        result = {"guarded": run(arguments, Path(folder), guarded=True)}
        if arguments.bare_requests:
            result["bare"] = run(arguments, Path(folder), guarded=False)
    bare = result.get("bare", {}).get("server_errors", {})
    result["only_guarded"] = [kind for kind in result["guarded"]["server_errors"] if kind not in bare]
    return result


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    made.add_argument("--requests", type=int, default=30_000)
    made.add_argument("--bare-requests", type=int, default=6_000, help="0: no run without the guardrail")
    made.add_argument("--clients", type=int, default=32)
    made.add_argument("--hostile", type=float, default=0.05, help="share of hostile requests")
    made.add_argument("--distinct", type=int, default=5_000, help="different questions in the traffic")
    made.add_argument("--seed", type=int, default=20_261_122)
    made.add_argument("--json", type=Path)
    return made


def main() -> None:
    arguments = parser().parse_args()
    text = json.dumps(soak(arguments), indent=2)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
