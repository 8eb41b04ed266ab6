"""MetaV against its rivals, and by the size of its zoo, on suspects that nothing was fitted to.

    python -m benchmarks.metav --task fashion-mnist --out fashion --seeds 2 3 4
    python -m benchmarks.metav --task digits --out digits --seeds 1 2 3 4 --sizes 8 16 32 64

A zoo a seed serves all rows; it also holds the unrelated models of the owner's architecture that some forms
of MetaV train on. A run that was stopped, even by kill -9, goes on when repeated: models are made once, a
method's queries once they are in OUT/made.jsonl, and a row once it is in OUT/rows.jsonl. Sizes are models
that are trained on, half of them stolen; a quarter as many choose the best state. The table of rivals is of
the largest. OUT/table.md and OUT/results.json hold what is printed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.metav.making import METAV, METHODS, OWN, Maker, Row
from benchmarks.metav.measuring import Bench, sub_zoo
from benchmarks.metav.table import main_table, missed, size_table, temper_table
from benchmarks.red_team.keeping import Kept
from sif_offline.metav.tasks import TASKS, make_task
from sif_offline.metav.zoo import Zoo, ZooProgress, ZooSize, build_zoo, plan_zoo


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, print."""
    arguments = _arguments(argv)
    torch.set_num_threads(arguments.threads)
    out = arguments.out
    maker = Maker(out, Kept(out / "made.jsonl"), arguments.queries, arguments.steps)
    bench = Bench(maker, Kept(out / "rows.jsonl"))
    largest = max(arguments.sizes)
    best: list[Row] = []
    by_size: list[Row] = []
    zoos: list[str] = []
    for seed in arguments.seeds:
        wanted = {method: METAV[method].own if method in METAV else OWN for method in arguments.methods}
        zoo, by_own = _zoos(arguments, seed, sorted(set(wanted.values())))
        zoos.append(_said(zoo))
        for size in sorted(arguments.sizes, reverse=True):
            for method, own in wanted.items():
                if size < largest and method not in METAV:
                    continue
                row = bench.measured(method, sub_zoo(by_own[own], size=size))
                sys.stderr.write(f"seed {seed}, {size} models: {method}, {row['seconds']:.0f} s\n")
                by_size += [row] if method in METAV else []
                best += [row] if size == largest else []
    alpha = bench.alpha
    parts = ["\n".join(zoos), main_table(best, alpha=alpha)]
    if by_size:
        largest_of = [row for row in by_size if row["size"] == largest]
        parts.append("At another temperature:\n\n" + temper_table(largest_of))
    if len(arguments.sizes) > 1 and by_size:
        parts.append(size_table(by_size, alpha=alpha))
    parts.append("Wrong, the full view:\n\n" + missed(best, alpha=alpha))
    text = "\n\n".join(parts) + "\n"
    (out / "table.md").write_text(text, encoding="utf-8")
    unique = {row["job"]: row for row in [*best, *by_size]}
    (out / "results.json").write_text(json.dumps(list(unique.values())) + "\n", encoding="utf-8")
    sys.stdout.write(text)


def _zoos(arguments: argparse.Namespace, seed: int, shares: Sequence[float]) -> tuple[Zoo, dict[float, Zoo]]:
    """The zoo of a seed, and what of it is there to train on by the share of the owner's architecture."""
    task, largest = make_task(arguments.task), max(arguments.sizes)
    plans = {}
    for own in shares:
        size = ZooSize(
            train=largest // 2,
            validation=max(1, largest // 8),
            calibration=arguments.calibration,
            test=arguments.test,
            own=own,
            checkpoints=arguments.checkpoints,
        )
        plans[own] = {member.name: member for member in plan_zoo(task, size=size, seed=seed)}

    def report(progress: ZooProgress) -> None:
        sys.stderr.write(
            f"seed {seed}: {progress.finished}/{progress.total} models {progress.member or ''}\n"
        )

    members = {name: member for plan in plans.values() for name, member in plan.items()}
    zoo = build_zoo(
        task,
        list(members.values()),
        folder=arguments.out / f"zoo-{seed}",
        seed=seed,
        on_progress=report,
    )
    return zoo, {own: zoo.among(list(plan)) for own, plan in plans.items()}


def _said(zoo: Zoo) -> str:
    owner = zoo.owner
    strangers = [row.quality for row in zoo.members if row.role == "negative"]
    stolen, unrelated = (len(zoo.of("test", role)) for role in ("positive", "negative"))
    return (
        f"{zoo.task.name}, zoo of seed {zoo.manifest.seed}: {len(zoo.members)} models made in "
        f"{sum(row.seconds for row in zoo.members):.0f} s of processor time; owner "
        f"{owner.recipe.architecture}, accuracy {owner.quality:.3f}, unrelated models "
        f"{min(strangers):.3f} to {max(strangers):.3f}; {stolen} stolen and {unrelated} unrelated suspects, "
        f"{len(zoo.of('calibration', 'negative'))} for p"
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.metav",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of zoos, packs, rows and tables")
    parser.add_argument("--task", choices=TASKS, default="fashion-mnist")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[2],
        help="of zoos; 0 is what the defaults were chosen on, 1 of fashion-mnist the matched filter",
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[32], help="models that are trained on; even")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--calibration", type=int, default=39, help="unrelated models that p is a rank among")
    parser.add_argument("--test", type=int, default=36, help="suspects of each kind")
    parser.add_argument(
        "--checkpoints", type=int, default=2, help="states kept of a model that is trained on"
    )
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--steps", type=int, default=600, help="of MetaV's training at most")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
