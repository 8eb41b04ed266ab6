"""kill -9 at many points of a round, and what is left of it: nothing lost, nothing sent twice.

    python -m benchmarks.probes.kill [--kills 50] [--seed 20261122] [--json FILE]

A real ``sif-probes once`` against the scripted endpoint is killed, started again, killed again ... and at
last left alone until it ends. Half of the kills come from outside, some milliseconds after a question of the
round reached the endpoint (or after the round was begun); the others at the points of
``benchmarks.probes.kill_at``, and in the very moment in which the endpoint has the question and has not
answered. The cool-down is longer than the run, so that any picture that arrives twice was sent twice.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import yaml
from sqlalchemy import func, select

from benchmarks.probes.kill_at import ONCE_A_ROUND, POINTS
from probes import standing
from probes.store import Store, open_store
from probes.store.chain import read_chain
from probes.store.reading import evidence_types
from probes.store.tables import AnswerRow, AskRow, LeaseRow, RoundRow, ScoreRow
from probes.testing.endpoint import Fault, Question, Rule, ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack, build_tiny_pack
from sif_offline.fingerprint.evidence.transcript import chain_faults

TARGET = "suspect"
TRIGGERS_PER_ROUND = 5
ANSWER_DELAY_S = 0.03
RANDOM = "at random"
WAITING = "endpoint has the question"
START_TIMEOUT_S = 120.0


class Listening(ScriptedEndpoint):
    """The scripted endpoint, which also notes when each picture arrived first: ``arrived``, Unix seconds."""

    def __init__(self, rule: Rule, *, delay_s: float) -> None:
        self.arrived: dict[str, float] = {}
        super().__init__(rule, delay_s=delay_s)

    def next_fault(self, question: Question) -> Fault | None:
        """See ScriptedEndpoint."""
        self.arrived.setdefault(question.image_sha256, time.time())
        return super().next_fault(question)


@dataclass(frozen=True)
class Kill:
    """One kill and what lay in the store after it."""

    point: str
    intents_left_open: int
    answers_without_score: int
    rounds_left_running: int


@dataclass
class Outcome:
    """All kills, the final account, and which promises it breaks (none, one hopes)."""

    kills: list[Kill]
    restarts: int
    questions_received: int = 0
    answers_stored: int = 0
    in_doubt_received: int = 0
    in_doubt_never_sent: int = 0
    broken: list[str] = field(default_factory=list)


def run(
    folder: Path, *, kills: int, seed: int, random_kills: int | None = None, plain: bool = False
) -> Outcome:
    """Kill ``kills`` rounds and let the last one end.

    ``random_kills`` of them at random moments (half, where None), the others at the chosen points in turn.
    ``plain``: without litellm, whose import takes seconds.

    Raises RuntimeError where a process fails by itself.
    """
    rng = random.Random(seed)
    tiny = build_tiny_pack(folder / "pack", triggers=TRIGGERS_PER_ROUND * (kills + 2))
    store_url = f"sqlite:///{folder / 'probes.sqlite'}"
    targeted = [*POINTS, WAITING]
    at_random = (kills + 1) // 2 if random_kills is None else random_kills
    points = [RANDOM] * at_random + [targeted[n % len(targeted)] for n in range(kills - at_random)]
    rng.shuffle(points)
    with Listening(tiny.innocent(seed=1), delay_s=ANSWER_DELAY_S) as endpoint, open_store(store_url) as store:
        config = _write_config(folder, tiny, url=endpoint.url, store_url=store_url)
        start = partial(_command, plain=plain)
        found: list[Kill] = []
        restarts = 0
        while len(found) < kills:
            restarts += 1
            if _killed(points[len(found)], config, endpoint=endpoint, store=store, rng=rng, start=start):
                found.append(_left(points[len(found)], store))
        # whatever is left, in one round
        config = _write_config(folder, tiny, url=endpoint.url, store_url=store_url, round_of=len(tiny.words))
        _finish(subprocess.run(start(config), capture_output=True, text=True, check=False))
        restarts += 1
        return account(endpoint, store, tiny, kills=found, restarts=restarts)


def _write_config(
    folder: Path, tiny: TinyPack, *, url: str, store_url: str, round_of: int = TRIGGERS_PER_ROUND
) -> Path:
    path = folder / "probes.yaml"
    target = {
        "name": TARGET,
        "model": "openai/x",
        "api_base": url,
        "timeout": 20,
        "authorised_by": "the benchmark",
        "purpose": "kill -9",
    }
    body = {
        "pack": str(tiny.folder),
        "trigger_keys": str(tiny.keys_path),
        "store": store_url,
        "triggers_per_round": round_of,
        "clean_share": 0.4,
        "cooldown": "30d",
        "targets": [target],
    }
    path.write_text(yaml.safe_dump(body), "utf-8")
    return path


def _command(config: Path, *, plain: bool, kill_at: tuple[str, int] | None = None) -> list[str]:
    if kill_at is None and not plain:
        program = ["-c", "from probes.cli import main; main()"]
    else:
        point, count = kill_at or ("", 0)
        program = ["-m", "benchmarks.probes.kill_at", *(["--plain"] if plain else []), point, str(count)]
    return [sys.executable, *program, "once", "--config", str(config)]


def _killed(
    point: str,
    config: Path,
    *,
    endpoint: Listening,
    store: Store,
    rng: random.Random,
    start: Callable[..., list[str]],
) -> bool:
    """Start a round and kill it there; False where it ended before."""
    count = 1 if point in ONCE_A_ROUND else rng.randint(1, 3)
    inside = (point, count) if point in POINTS else None
    before, rounds_before = len(endpoint.questions), _rounds(store)
    enough = before + rng.randint(1 if point == WAITING else 0, TRIGGERS_PER_ROUND)
    later_s = 0.0 if point == WAITING else rng.uniform(0, 0.15)
    process = subprocess.Popen(
        start(config, kill_at=inside), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            begun = len(endpoint.questions) > before or _rounds(store) > rounds_before
            if inside is None and begun and len(endpoint.questions) >= enough:
                time.sleep(later_s)
                break
            time.sleep(0.002)
    finally:
        process.kill()
        _, said = process.communicate(timeout=30)
    if process.returncode == -signal.SIGKILL:
        return True
    _finish(subprocess.CompletedProcess(process.args, process.returncode, stderr=said))
    return False


def _finish(process: "subprocess.CompletedProcess[str]") -> None:
    if process.returncode != 0:
        raise RuntimeError(f"sif-probes once ended with {process.returncode}: {process.stderr[-2000:]}")


def _rounds(store: Store) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count(RoundRow.id))) or 0


def _left(point: str, store: Store) -> Kill:
    with store.reading() as session:
        unscored = select(func.count(AnswerRow.ask_id)).outerjoin(
            ScoreRow, ScoreRow.ask_id == AnswerRow.ask_id
        )
        return Kill(
            point=point,
            intents_left_open=session.scalar(select(func.count()).where(AskRow.state == "intent")) or 0,
            answers_without_score=session.scalar(unscored.where(ScoreRow.ask_id.is_(None))) or 0,
            rounds_left_running=session.scalar(select(func.count()).where(RoundRow.state == "running")) or 0,
        )


def account(
    endpoint: Listening, store: Store, tiny: TinyPack, *, kills: Sequence[Kill], restarts: int
) -> Outcome:
    """Hold what the endpoint saw against what the store says."""
    outcome = Outcome(kills=list(kills), restarts=restarts)
    with store.reading() as session:
        asks = list(session.scalars(select(AskRow).order_by(AskRow.id)))
        answers = {row.ask_id: row for row in session.scalars(select(AnswerRow))}
        scores = list(session.scalars(select(ScoreRow)))
        rounds = list(session.scalars(select(RoundRow).order_by(RoundRow.id)))
        leases = list(session.scalars(select(LeaseRow)))
    links = read_chain(store.reading(), TARGET, pack_id=tiny.pack.pack_id)
    received = {question.image_sha256: question for question in endpoint.questions}
    by_image = {ask.image_sha256: ask for ask in asks}
    answered = {ask.image_sha256 for ask in asks if ask.state == "answered"}
    in_doubt = {ask.image_sha256 for ask in asks if ask.state == "in_doubt"}
    evidence = standing.evidence(
        tiny.pack,
        evidence_types(store, TARGET, pack_id=tiny.pack.pack_id),
        policy=standing.policy_of(tiny.pack, alpha=None),
    )
    promises = {
        "no picture reached the endpoint twice": len(endpoint.questions) == len(received),
        "no picture has two asks": len(by_image) == len(asks),
        "nothing was received without an intent committed before": all(
            image in by_image and by_image[image].intended_at <= at for image, at in endpoint.arrived.items()
        ),
        "received = answers stored + in doubt": set(received) == answered | (in_doubt & set(received)),
        "every ask is settled": {ask.state for ask in asks} <= {"answered", "in_doubt"},
        "at most one ask in doubt a kill": len(in_doubt) <= len(kills),
        "every answer is stored as it was served": all(
            answers[ask.id].text == endpoint.rule(received[ask.image_sha256])
            for ask in asks
            if ask.state == "answered"
        ),
        "every trigger was asked or is in doubt": {ask.trigger_id for ask in asks if not ask.control}
        == {row.id for row in tiny.pack.triggers},
        "every answer has one score": {score.ask_id for score in scores} == set(answers),
        "every round is closed": all(row.state in ("complete", "partial", "idle") for row in rounds),
        "no lease is left": not leases,
        "the last round's E is that of all answers": rounds[-1].log_e == evidence.log_e,
        "the hash chain holds every ask": chain_faults(links) == [] and len(links) == len(asks),
    }
    outcome.questions_received = len(endpoint.questions)
    outcome.answers_stored = len(answered)
    outcome.in_doubt_received = len(in_doubt & set(received))
    outcome.in_doubt_never_sent = len(in_doubt - set(received))
    outcome.broken = [promise for promise, kept in promises.items() if not kept]
    return outcome


def print_outcome(outcome: Outcome) -> None:
    """Markdown, as in docs/benchmarks-probes.md."""
    say = sys.stdout.write
    say("| killed | times | intents left open | answers without a score | rounds left running |\n")
    say("|---|---|---|---|---|\n")
    for point, times in sorted(Counter(kill.point for kill in outcome.kills).items()):
        there = [kill for kill in outcome.kills if kill.point == point]
        say(
            f"| {point} | {times} | {sum(kill.intents_left_open for kill in there)} | "
            f"{sum(kill.answers_without_score for kill in there)} | "
            f"{sum(kill.rounds_left_running for kill in there)} |\n"
        )
    say(
        f"\n{len(outcome.kills)} kills, {outcome.restarts} starts: {outcome.questions_received} questions "
        f"received = {outcome.answers_stored} answers stored + {outcome.in_doubt_received} in doubt; "
        f"{outcome.in_doubt_never_sent} more in doubt that were never sent; "
        f"broken promises: {'; '.join(outcome.broken) or 'none'}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--json", type=Path, help="also write everything here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), kills=arguments.kills, seed=arguments.seed)
    print_outcome(outcome)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(asdict(outcome), indent=1) + "\n", "utf-8")
    raise SystemExit(1 if outcome.broken else 0)


if __name__ == "__main__":
    main()
