"""Innocents watched for months: how many are ever confirmed, and how long pirates take, beside a z test.

    python -m benchmarks.probes.null_soak [--targets 200] [--rounds 300] [--jobs 2] [--json FILE]

Innocents twice: text that does not depend on the key (green rate gamma), and new types green at exactly gamma
plus the transfer, the worst that the unrelated-model null allows. Pirates: new types green at the lab owner's
share. Each of them greedy, sampled and rotating (``benchmarks.probes.simulated``), with keys of its own.

The verdict is the watch's own (``probes.standing.evidence`` over all answers in order of arrival: "confirmed"
means that E against "unrelated model" ever reached 1/alpha, between any two types). Beside it what a monitor
with a fixed threshold does: Stouffer's z over all distinct types so far, against the null that is true of the
innocents, alarm over the normal quantile at 1 - alpha, one look a round; and with a look after every answer.

The transfer .076 is the demo pack's (docs/figures.md, "Confirmed" needs the other null), the pirates' share
.6915 that of the lab owner's demo triggers (docs/forging.md: mean z 2.17 at 32.1 types).
"""

import argparse
import json
import math
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any, get_args

import numpy as np
from scipy import stats

from benchmarks.probes.simulated import Behaviour, NewTypes, Watched
from benchmarks.sequential.answers_to_confirmation import OWNER_SHARE
from probes import standing
from probes.testing.tiny_pack import build_tiny_pack
from sif_offline.fingerprint.evidence.commitment import NullModel, Policy
from sif_offline.fingerprint.pack import FingerprintPack
from sif_offline.fingerprint.response import zscore
from sif_offline.fingerprint.sequential import CONFIRMED, EProcess

DEMO_TRANSFER = 0.076
"""What `sif calibrate` measured for the demo pack: unrelated models are green at gamma + .076 at most."""

PIRATE_ROUNDS = 30
"""Rounds over a pirate: what is asked of it is how soon, not for how long."""

Answers = Sequence[tuple[str, NewTypes]]


@dataclass(frozen=True)
class Seen:
    """What one target brought. Counts of answers are None where it never came to that."""

    answers: int
    types: int
    confirmed: int | None  # answers until the verdict
    confirmed_by_default: int | None  # the same at the level that a watch has by default
    log_e_independent_max: float
    z_by_round: int | None  # answers until the first look over the threshold
    z_by_answer: int | None
    z_first_round: bool


@dataclass(frozen=True)
class Group:
    """All targets of a kind. Shares are of targets; ``*_ci`` are 95 % Clopper-Pearson intervals."""

    kind: str
    behaviour: str
    rate: float | None
    targets: int
    answers: int
    types: float
    confirmed: float
    confirmed_ci: tuple[float, float]
    independent_reached: float
    z_by_round: float
    z_by_round_ci: tuple[float, float]
    z_by_answer: float
    z_first_round: float
    answers_to_confirmation: list[float | None]  # 10, 50, 90 % of all targets; None: never
    answers_to_default_confirmation: list[float | None]
    answers_to_z_by_round: list[float | None]
    answers_to_z_by_answer: list[float | None]


def make_pack(folder: Path, *, vocab_size: int) -> FingerprintPack:
    """A real pack, its vocabulary set to the lab's: of it the statistics read V and N_g alone."""
    return build_tiny_pack(folder, triggers=2).pack.model_copy(update={"vocab_size": vocab_size})


def make_policy(pack: FingerprintPack, *, alpha: float, transfer: float) -> Policy:
    """The test of a watch at this level, under the measured transfer."""
    return Policy(
        alpha=alpha,
        gamma=pack.green_size / pack.vocab_size,
        transfer=transfer,
        null_models=(NullModel(name="of the demo pack"),),
    )


def watch(watched: Watched, seed: tuple[int, ...], *, pack: FingerprintPack, policy: Policy) -> Seen:
    """Simulate one target and judge it by the watch's code and by the z test."""
    answers = list(watched.answers(np.random.default_rng(seed)))

    independent = EProcess(
        vocab_size=pack.vocab_size, green_size=pack.green_size, grid_points=policy.grid_points
    )
    for trigger_id, new in answers:
        independent.update(trigger_id, new)
    null_rate = None if watched.rate is None else policy.gamma + (policy.transfer or 0.0)
    by_answer = [
        count
        for count, z in enumerate(stouffer_so_far(answers, pack=pack, rate=null_rate), start=1)
        if z > NormalDist().inv_cdf(1 - policy.alpha)
    ]
    by_round = [count for count in by_answer if count % watched.triggers == 0]
    confirmed = answers_to_confirmation(answers, pack=pack, policy=policy)
    return Seen(
        answers=len(answers),
        types=independent.types,
        confirmed=confirmed,
        # whoever never reaches the looser level never reaches the stricter one
        confirmed_by_default=None
        if confirmed is None
        else answers_to_confirmation(
            answers, pack=pack, policy=policy.model_copy(update={"alpha": min(policy.alpha, CONFIRMED)})
        ),
        log_e_independent_max=independent.max_log_e,
        z_by_round=min(by_round, default=None),
        z_by_answer=min(by_answer, default=None),
        z_first_round=watched.triggers in by_round,
    )


def answers_to_confirmation(answers: Answers, *, pack: FingerprintPack, policy: Policy) -> int | None:
    """After how many answers the watch says "confirmed"; None where it never does."""

    def confirmed(count: int) -> bool:
        return standing.evidence(pack, answers[:count], policy=policy).verdict == "confirmed"

    if not confirmed(len(answers)):
        return None
    # the verdict never falls, so that the answer which brought it is found by halving
    return bisect_left(range(len(answers)), True, key=confirmed)


def stouffer_so_far(answers: Answers, *, pack: FingerprintPack, rate: float | None) -> list[float]:
    """Stouffer's z of all distinct types after each answer; ``rate`` of the null, None: independent text."""
    counts: dict[str, tuple[int, int]] = {}
    weighted: dict[str, float] = {}  # sqrt(U) z of each trigger
    total, types, found = 0.0, 0, []
    for trigger_id, new in answers:
        if new:
            seen, greens = counts.get(trigger_id, (0, 0))
            seen, greens = seen + len(new), greens + sum(green for _, green in new)
            counts[trigger_id] = seen, greens
            if rate is None:
                z = zscore(greens=greens, types=seen, vocab_size=pack.vocab_size, green_size=pack.green_size)
            else:
                z = (greens - seen * rate) / math.sqrt(seen * rate * (1 - rate))
            total += math.sqrt(seen) * z - weighted.get(trigger_id, 0.0)
            weighted[trigger_id] = math.sqrt(seen) * z
            types += len(new)
        found.append(total / math.sqrt(types) if types else 0.0)
    return found


def allowed(targets: int, *, alpha: float, false_alarm: float = 1e-3) -> int:
    """The most confirmed innocents of ``targets`` that a test of true level alpha exceeds only so rarely."""
    return int(stats.binom.ppf(1 - false_alarm, targets, alpha))


def summarise(kind: str, watched: Watched, seen: Sequence[Seen], *, alpha: float) -> Group:
    """One row of the table."""
    confirmed = [row.confirmed for row in seen]
    by_round, by_answer = [row.z_by_round for row in seen], [row.z_by_answer for row in seen]
    return Group(
        kind=kind,
        behaviour=watched.behaviour,
        rate=watched.rate,
        targets=len(seen),
        answers=seen[0].answers,
        types=sum(row.types for row in seen) / len(seen),
        confirmed=_share(confirmed),
        confirmed_ci=_interval(confirmed),
        independent_reached=sum(row.log_e_independent_max >= -math.log(alpha) for row in seen) / len(seen),
        z_by_round=_share(by_round),
        z_by_round_ci=_interval(by_round),
        z_by_answer=_share(by_answer),
        z_first_round=sum(row.z_first_round for row in seen) / len(seen),
        answers_to_confirmation=_deciles(confirmed),
        answers_to_default_confirmation=_deciles([row.confirmed_by_default for row in seen]),
        answers_to_z_by_round=_deciles(by_round),
        answers_to_z_by_answer=_deciles(by_answer),
    )


def _share(counts: Sequence[int | None]) -> float:
    return sum(count is not None for count in counts) / len(counts)


def _interval(counts: Sequence[int | None]) -> tuple[float, float]:
    found = stats.binomtest(sum(count is not None for count in counts), len(counts))
    low, high = found.proportion_ci(method="exact")
    return float(low), float(high)


def _deciles(counts: Sequence[int | None]) -> list[float | None]:
    """10, 50 and 90 % of all targets, those that never came to it at the end."""
    ordered = sorted(math.inf if count is None else float(count) for count in counts)
    found = [ordered[math.ceil(part * len(ordered)) - 1] for part in (0.1, 0.5, 0.9)]
    return [None if math.isinf(value) else value for value in found]


def soak(
    *,
    targets: int,
    rounds: int,
    triggers: int = 16,
    alpha: float = 0.01,
    transfer: float = DEMO_TRANSFER,
    share: float = OWNER_SHARE,
    vocab_size: int = 4096,
    seed: int = 0,
    jobs: int = 1,
) -> list[Group]:
    """All kinds by all behaviours, ``targets`` each."""
    with tempfile.TemporaryDirectory() as folder:
        pack = make_pack(Path(folder), vocab_size=vocab_size)
    policy = make_policy(pack, alpha=alpha, transfer=transfer)
    rates = {"innocent, gamma": None, "innocent, gamma + transfer": policy.gamma + transfer, "pirate": share}
    groups = []
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        for number, (kind, rate) in enumerate(rates.items()):
            for place, behaviour in enumerate(get_args(Behaviour)):
                watched = Watched(
                    behaviour,
                    rate,
                    rounds=min(rounds, PIRATE_ROUNDS) if kind == "pirate" else rounds,
                    triggers=triggers,
                    vocab_size=vocab_size,
                )
                seeds = [(seed, number, place, target) for target in range(targets)]
                one = partial(watch, watched, pack=pack, policy=policy)
                seen = list(pool.map(one, seeds, chunksize=5))
                groups.append(summarise(kind, watched, seen, alpha=alpha))
    return groups


def print_tables(groups: Sequence[Group], *, alpha: float) -> None:
    """Markdown, as in docs/benchmarks-probes.md."""
    say = sys.stdout.write
    innocents = [group for group in groups if group.kind != "pirate"]
    most = allowed(innocents[0].targets, alpha=alpha)
    say(
        f"{innocents[0].targets} innocents a row, {innocents[0].answers} answers each, alpha {alpha:g}: "
        f"at most {most} confirmed ({most / innocents[0].targets:.3f}) is alpha + its sampling error "
        "(exceeded by a test of that very level with chance 1e-3)\n\n"
        "| innocents | they are | types | confirmed (95 %) | within "
        "| E against independent text reaches 1/alpha | z over its threshold ever, a look a round (95 %) "
        "| a look an answer | at the first round's look |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    for group in innocents:
        say(
            f"| {group.kind.removeprefix('innocent, ')} | {group.behaviour} | {group.types:,.0f} | "
            f"{group.confirmed:.3f} ({group.confirmed_ci[0]:.3f} to {group.confirmed_ci[1]:.3f}) | "
            f"{'yes' if round(group.confirmed * group.targets) <= most else 'NO'} | "
            f"{group.independent_reached:.3f} | "
            f"{group.z_by_round:.3f} ({group.z_by_round_ci[0]:.3f} to {group.z_by_round_ci[1]:.3f}) | "
            f"{group.z_by_answer:.3f} | {group.z_first_round:.3f} |\n"
        )
    say(
        f"\n| pirates | rate | types | confirmed | answers to it, 10 / 50 / 90 % | to {CONFIRMED:g} "
        "| to the z alarm, a look an answer | a look a round |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    for group in (group for group in groups if group.kind == "pirate"):
        say(
            f"| {group.behaviour} | {group.rate:.4f} | {group.types:,.0f} | {group.confirmed:.3f} | "
            f"{_line(group.answers_to_confirmation)} | {_line(group.answers_to_default_confirmation)} | "
            f"{_line(group.answers_to_z_by_answer)} | {_line(group.answers_to_z_by_round)} |\n"
        )


def _line(deciles: Sequence[float | None]) -> str:
    return " / ".join("never" if value is None else f"{value:.0f}" for value in deciles)


def as_json(groups: Sequence[Group], **settings: Any) -> str:
    """Settings and groups."""
    return json.dumps({"settings": settings, "groups": [asdict(group) for group in groups]}, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--triggers", type=int, default=16, help="triggers a round")
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--transfer", type=float, default=DEMO_TRANSFER)
    parser.add_argument("--share", type=float, default=OWNER_SHARE, help="green share of the pirates")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write everything here")
    settings = vars(parser.parse_args())
    target = settings.pop("json")
    began = time.monotonic()
    groups = soak(**settings)
    print_tables(groups, alpha=settings["alpha"])
    sys.stdout.write(f"\n{time.monotonic() - began:.0f} s\n")
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(as_json(groups, **settings), "utf-8")


if __name__ == "__main__":
    main()
