"""A watch with a history, for the tests of the pages and for the screenshots of the docs."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from probes.config import load_config
from probes.rounds import RoundSettings, sif_runner
from probes.targets import Answer, AskFailure
from probes.testing.endpoint import Question, Rule, completion
from probes.testing.tiny_pack import TinyPack
from probes.watch import Watch

HOUR = 3600.0


@dataclass
class RuleTarget:
    """A target in this process: answers by rule, fails or refuses at the sends that are listed."""

    name: str
    rule: Rule
    trouble: Callable[[int], str | None] = lambda _: None
    model: str = "openai/x"
    api_base: str | None = None
    system_prompt: str | None = None
    clock: "Clock | None" = None
    sends: int = field(default=0, init=False)

    def prepare(self) -> None:
        """Nothing to load."""

    def ask(self, *, image: bytes | None, prompt: str, max_tokens: int) -> Answer:
        """See ``Target``."""
        self.sends += 1
        if self.clock is not None:
            self.clock.now += 1.4
        trouble = self.trouble(self.sends)
        if trouble in ("timeout", "rate_limited", "http"):
            raise AskFailure(
                target=self.name,
                reason="the endpoint failed",
                kind=trouble,
                in_doubt=trouble != "rate_limited",
            )
        digest = hashlib.sha256(image or b"").hexdigest()
        text = (
            "I'm sorry, I cannot describe it."
            if trouble == "refusal"
            else self.rule(Question(prompt, image, digest, {}))
        )
        words = len(text.split())
        return Answer(text, "stop", "x-2026", 1.4, 310, words, 0.00042, raw=completion(text, model="x"))


@dataclass
class Clock:
    """Unix seconds that move when told to."""

    now: float

    def __call__(self) -> float:
        return self.now


class ManualScheduler:
    """Plans what it is told; runs nothing."""

    def __init__(self, next_run: float | None = None) -> None:
        self._next_run = next_run

    def every(
        self, *, name: str, interval_s: float, first_in_s: float, job: Callable[[], None], jitter_s: float = 0
    ) -> None:
        """See Scheduler."""

    def remove(self, name: str) -> None:
        """See Scheduler."""

    def wake(self, name: str) -> None:
        """See Scheduler."""

    def next_run(self, name: str) -> float | None:
        """See Scheduler."""
        return self._next_run

    def start(self) -> None:
        """See Scheduler."""

    def stop(self, *, grace_s: float) -> bool:
        """See Scheduler."""
        return True


def open_watch(tiny: TinyPack, folder: Path, names: dict[str, str], *, store: str = "") -> Watch:
    """A watch over targets, name -> purpose, with a store of its own in ``folder`` unless one is named."""
    targets = [
        {
            "name": name,
            "model": f"openai/{name}-vl",
            "api_base": f"https://{name}.example/v1",
            "authorised_by": "A. Owner, legal desk, matter 2026-17",
            "purpose": purpose,
        }
        for name, purpose in names.items()
    ]
    body = {"pack": str(tiny.folder), "trigger_keys": str(tiny.keys_path), "targets": targets}
    if store:
        body["store"] = store
    path = folder / "probes.yaml"
    path.write_text(yaml.safe_dump(body), "utf-8")
    return Watch.open(load_config(path))


def run_rounds(watch: Watch, target: RuleTarget, *, rounds: int, until: float, per_round: int = 4) -> None:
    """Hourly rounds that end shortly before ``until``."""
    clock = target.clock = Clock(until - rounds * HOUR)
    runner = sif_runner(
        target=target,
        scorer=watch.scorer,
        store=watch.store,
        settings=RoundSettings(
            triggers_per_round=per_round,
            clean_share=0.25,
            cooldown_s=3000.0,
            alpha=None,
            attempts=1,
            timeout_s=5.0,
        ),
        clock=clock,
        rng=random.Random(target.name),
    )
    for number in range(rounds):
        clock.now = (
            until - (rounds - number) * HOUR + random.Random(f"{target.name} {number}").uniform(0, 600)
        )
        runner.run()
