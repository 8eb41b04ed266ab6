"""What one round costs the watch, by the length of the target's history, and what asking costs by itself.

CPU seconds of this process. The target of the first part answers out of memory, so that nothing but the watch
is measured; the second part asks a scripted endpoint in a process of its own.
"""

import functools
import gc
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.probes.history import HOUR_S, extend
from probes import standing
from probes.rounds import RoundSettings, scoring, sif, sif_runner
from probes.store import Store, open_store
from probes.targets import Answer, LiteLLMTarget, Target
from probes.testing.endpoint import Question, completion
from probes.testing.plain_target import PlainTarget
from probes.testing.tiny_pack import TinyPack, build_tiny_pack

STAGES: tuple[tuple[object, str], ...] = (
    (Store, "recover"),
    (Store, "last_sends"),
    (Store, "intend"),
    (Store, "settle_answer"),
    (Store, "unscored"),
    (Store, "add_score"),
    (standing, "score_new"),
    (scoring, "_resume"),
    (standing.Ledger, "add"),
    (standing.Ledger, "state"),
    (scoring, "keep_standing"),
    (sif, "wrong_key_control"),
)
"""Where a round spends its time: functions that do not call one another."""


class FromMemory:
    """A target that answers at once, in this process."""

    model = "memory"
    api_base: str | None = None
    system_prompt: str | None = None

    def __init__(self, name: str, tiny: TinyPack) -> None:
        self.name = name
        self._rule = tiny.innocent(seed=3)
        self._sha256 = {tiny.pack.trigger_bytes(row): row.sha256 for row in tiny.pack.triggers} | {
            tiny.pack.clean_bytes(row): row.clean_sha256 for row in tiny.pack.triggers
        }

    def prepare(self) -> None:
        """Nothing to load."""

    def ask(self, *, image: bytes | None, prompt: str, max_tokens: int) -> Answer:
        """See ``Target``."""
        said = self._rule(Question(prompt, image, self._sha256[image or b""], {}))
        return Answer(said, "stop", "memory", 0.0, 10, 40, 0.0, raw=completion(said, model="memory"))


@dataclass(frozen=True)
class Growth:
    """One round on top of ``rounds`` earlier ones: CPU and wall seconds, the database's size in bytes.

    ``replay_cpu_s``: of the round before it, for which nothing was kept (the first after an upgrade).
    """

    rounds: int
    speech: str
    asks: int
    replay_cpu_s: float
    cpu_s: float
    wall_s: float
    size: int
    stages_cpu_s: dict[str, float]


def settings(tiny: TinyPack) -> RoundSettings:
    """An hourly round of all triggers with a quarter of clean photos."""
    return RoundSettings(
        triggers_per_round=len(tiny.pack.triggers),
        clean_share=0.25,
        cooldown_s=3000.0,
        alpha=None,
        attempts=3,
        timeout_s=30.0,
    )


def run_round(store: Store, target: Target, tiny: TinyPack, *, at: float) -> None:
    """One round at a given time (Unix seconds, standing still)."""
    runner = sif_runner(
        target=target, scorer=tiny.scorer, store=store, settings=settings(tiny), clock=lambda: at
    )
    if runner.run() is None:
        raise RuntimeError("another process holds the lease of a store of our own")


def measure_growth(*, lengths: Sequence[int], triggers: int = 16) -> list[Growth]:
    """A round of a greedy and of a sampled target after so many hourly rounds, a SQLite file each."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        tiny = build_tiny_pack(Path(folder), triggers=triggers)
        target = FromMemory("target", tiny)
        for length in lengths:
            for speech in ("greedy", "sampled"):
                path = Path(folder, f"{length}-{speech}.sqlite")
                now = time.time()
                with open_store(f"sqlite:///{path}") as store:
                    run_round(store, target, tiny, at=now - 2 * HOUR_S)
                    if length > 2:  # that round, and the one that replays
                        extend(store, ["target"], rounds=length - 2, sampled=speech == "sampled")
                    replay = time.process_time()
                    run_round(store, target, tiny, at=now - HOUR_S)
                    replay = time.process_time() - replay
                    gc.collect()  # what the replay left is not this round's
                    with _stages() as spent:
                        wall, cpu = time.monotonic(), time.process_time()
                        run_round(store, target, tiny, at=now)
                        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
                    rounds = max(2, length)
                asks = (rounds + 1) * (triggers + triggers // 4)
                size = os.path.getsize(path)
                found.append(Growth(rounds, speech, asks, replay, cpu, wall, size, dict(spent)))
                path.unlink()
    return found


@contextmanager
def _stages() -> Iterator[dict[str, float]]:
    """CPU seconds by stage while it lasts."""
    spent: dict[str, float] = defaultdict(float)
    before = [(owner, name, getattr(owner, name)) for owner, name in STAGES]
    for owner, name, function in before:
        setattr(owner, name, _timed(function, name, spent))
    try:
        yield spent
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def _timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        began = time.process_time()
        try:
            return function(*arguments, **keywords)
        finally:
            spent[name] += time.process_time() - began

    return wrapped


def measure_asking(url: str, tiny: TinyPack, *, questions: int) -> dict[str, float]:
    """CPU seconds of this process a question, without the first: litellm, httpx alone, the rule alone."""
    targets: dict[str, Target] = {
        "litellm": LiteLLMTarget(name="x", model="openai/x", api_base=url),
        "httpx": PlainTarget(name="x", url=url),
        "memory": FromMemory("x", tiny),
    }
    row = tiny.pack.triggers[0]
    image = tiny.pack.trigger_bytes(row)
    found = {}
    for name, target in targets.items():
        target.ask(image=image, prompt=row.prompt, max_tokens=64)
        began = time.process_time()
        for _ in range(questions):
            target.ask(image=image, prompt=row.prompt, max_tokens=64)
        found[name] = (time.process_time() - began) / questions
    return found
