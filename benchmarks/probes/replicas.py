"""Several replicas of the watch on one PostgreSQL: no trigger is sent twice, also when replicas are killed.

    python -m benchmarks.probes.replicas [--rounds 500] [--replicas 2] [--kills 10] [--json FILE]

Each target is a scripted endpoint that keeps what it was asked; the cool-down is longer than the run, so a
trigger may reach a target once. Replicas are killed (-9) in the middle of a round, each time a random one,
and started again. In the end what the endpoints were asked is compared with what the store holds.
"""

import argparse
import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import yaml
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from probes.store import Store, open_store
from probes.store.chain import read_chain
from probes.store.tables import AskRow, RoundRow
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.postgres import PostgresServer
from probes.testing.tiny_pack import TinyPack, build_tiny_pack
from sif_offline.fingerprint.evidence.transcript import chain_faults

PER_ROUND = 4
"""Triggers a round."""


@dataclass(frozen=True)
class Result:
    """What a run showed. The first group is what happened, the second must be zero.

    Args:
        rounds: rounds that sent something; ``partial`` of them were cut short, by a kill or by the stop.
        by_replica: rounds ended by each replica, restarts included.
        lease_refused: ticks that met a round of the same target under way.
        sends: questions that the endpoints received.
        answered, in_doubt: the asks in the store by their state.
        sent_twice: (target, trigger) that an endpoint received more than once.
        without_intent: received, but unknown to the store.
        unaccounted: received, but neither answered nor in doubt in the store.
        overlapping: pairs of rounds of one target that ran at the same time; a killed one ended with its last
            answer.
        chain_faults: faults in the hash chains.
    """

    rounds: int
    partial: int
    by_replica: list[int]
    kills: int
    lease_refused: int
    sends: int
    answered: int
    in_doubt: int
    seconds: float
    sent_twice: int
    without_intent: int
    unaccounted: int
    overlapping: int
    chain_faults: int


class Replica:
    """A replica's process, and the rounds that it says it has under way."""

    def __init__(self, config: Path, store_url: str, interval_s: float) -> None:
        self._command = [sys.executable, "-m", "benchmarks.probes.replica", str(config), store_url]
        self._command.append(str(interval_s))
        self.ended = self.refused = 0
        self.under_way: set[str] = set()
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        self.under_way = set()
        self.process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self._gone()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._gone()

    def _gone(self) -> int:
        status = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return status

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for text in lines:
                with contextlib.suppress(json.JSONDecodeError):  # a line that a kill cut
                    self._note(json.loads(text))

    def _note(self, line: dict[str, str | None]) -> None:
        if "began" in line:
            self.under_way.add(str(line["began"]))
        elif "ended" in line:
            self.under_way.discard(str(line["ended"]))
            self.refused += line["state"] is None
            self.ended += line["state"] in ("complete", "partial")


def measure(
    folder: Path,
    store_url: str,
    *,
    rounds: int,
    targets: int,
    replicas: int,
    kills: int,
    interval_s: float,
    seed: int = 0,
    limit_s: float = 3600.0,
) -> Result:
    """Run replicas until ``rounds`` rounds have sent something, killing ``kills`` times on the way."""
    rng = random.Random(seed)
    # half as many again as needed: targets do not get the same number of rounds
    tiny = build_tiny_pack(folder, triggers=math.ceil(1.5 * PER_ROUND * (rounds / targets + 2)))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        endpoints = {
            f"suspect-{number}": stack.enter_context(
                ScriptedEndpoint(tiny.innocent(seed=number), delay_s=0.05)
            )
            for number in range(targets)
        }
        store = stack.enter_context(open_store(store_url))
        config = _write_config(folder, tiny, endpoints)
        running: list[Replica] = []
        stack.callback(lambda: [replica.process.kill() for replica in running])
        running += [Replica(config, store_url, interval_s) for _ in range(replicas)]
        killed = 0
        while (done := _rounds(store)) < rounds or killed < kills:
            if any(replica.process.poll() is not None for replica in running):
                raise RuntimeError("a replica ended by itself")
            if time.monotonic() - began > limit_s:
                raise TimeoutError(f"{done} of {rounds} rounds after {limit_s:g} s")
            if killed < kills and done >= rounds * (killed + 1) / (kills + 1):
                _kill_mid_round(rng, running, endpoints)
                killed += 1
            time.sleep(0.1)
        statuses = [replica.stop() for replica in running]
        if any(statuses):
            raise RuntimeError(f"a replica ended with {statuses}")
        seconds = time.monotonic() - began
        return _result(store, tiny, endpoints, running, kills=killed, seconds=seconds)


def _kill_mid_round(
    rng: random.Random, running: list[Replica], endpoints: dict[str, ScriptedEndpoint]
) -> None:
    """Kill one that has a round under way, soon after a question of that round came in; start it again."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        replica = rng.choice(running)
        for name in list(replica.under_way):
            before = len(endpoints[name].questions)
            deadline = time.monotonic() + 1.0
            while name in replica.under_way and time.monotonic() < deadline:
                if len(endpoints[name].questions) > before:
                    time.sleep(rng.uniform(0, 0.06))
                    replica.kill()
                    replica.start()
                    return
                time.sleep(0.002)
        time.sleep(0.01)
    raise TimeoutError("no replica asked anything for a minute")


def _write_config(folder: Path, tiny: TinyPack, endpoints: dict[str, ScriptedEndpoint]) -> Path:
    body = {
        "pack": str(tiny.folder),
        "trigger_keys": str(tiny.keys_path),
        "triggers_per_round": PER_ROUND,
        "clean_share": 0,
        "cooldown": "30d",
        "targets": [
            {
                "name": name,
                "model": "openai/x",
                "api_base": endpoint.url,
                "timeout": 5,
                "authorised_by": "the benchmark",
                "purpose": "a benchmark",
            }
            for name, endpoint in endpoints.items()
        ],
    }
    path = folder / "probes.yaml"
    path.write_text(yaml.safe_dump(body), "utf-8")
    return path


def _rounds(store: Store) -> int:
    with store.reading() as session:
        ended = select(func.count()).where(RoundRow.state.in_(("complete", "partial")))
        return session.scalar(ended) or 0


def _result(
    store: Store,
    tiny: TinyPack,
    endpoints: dict[str, ScriptedEndpoint],
    running: list[Replica],
    *,
    kills: int,
    seconds: float,
) -> Result:
    received = Counter(
        (name, tiny.trigger_of[question.image_sha256])
        for name, endpoint in endpoints.items()
        for question in endpoint.questions
    )
    with store.reading() as session:
        asks = list(session.scalars(select(AskRow)))
        rounds = list(session.scalars(select(RoundRow).order_by(RoundRow.id)))
    settled = {(ask.target, ask.trigger_id) for ask in asks if ask.state in ("answered", "in_doubt")}
    links = [read_chain(store.reading(), name, pack_id=tiny.pack.pack_id) for name in endpoints]
    states, by_state = Counter(row.state for row in rounds), Counter(ask.state for ask in asks)
    return Result(
        rounds=states["complete"] + states["partial"],
        partial=states["partial"],
        by_replica=[replica.ended for replica in running],
        kills=kills,
        lease_refused=sum(replica.refused for replica in running),
        sends=sum(received.values()),
        answered=by_state["answered"],
        in_doubt=by_state["in_doubt"],
        seconds=round(seconds, 1),
        sent_twice=sum(times > 1 for times in received.values()),
        without_intent=len(set(received) - {(ask.target, ask.trigger_id) for ask in asks}),
        unaccounted=len(set(received) - settled),
        overlapping=sum(_overlapping([row for row in rounds if row.target == name]) for name in endpoints),
        chain_faults=sum(len(chain_faults(chain)) for chain in links),
    )


def _overlapping(rounds: list[RoundRow]) -> int:
    """Rounds of one target that began before the one before them had ended."""
    return sum(
        later.started_at < (earlier.finished_at or earlier.started_at) for earlier, later in pairwise(rounds)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--targets", type=int, default=10)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two rounds of a target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        result = measure(
            Path(folder),
            server.create("watch"),
            rounds=arguments.rounds,
            targets=arguments.targets,
            replicas=arguments.replicas,
            kills=arguments.kills,
            interval_s=arguments.interval,
            seed=arguments.seed,
        )
    table = Table("figure", "value", title=f"{arguments.replicas} replicas on one PostgreSQL")
    for name, value in asdict(result).items():
        said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(name.replace("_", " "), said)
    Console().print(table)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(asdict(result), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
