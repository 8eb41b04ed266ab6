"""How many answers an e-process needs until it speaks, by the green share of an answer's types.

    python -m benchmarks.sequential.answers_to_confirmation [--share 0.69 ...] [--transfer 0 0.03] [--json]
    python -m benchmarks.sequential.answers_to_confirmation --answers 9 13 15

Simulated: each answer is to a trigger of its own and has --types distinct types on average, each green with
probability ``share``; a type-by-type watch; the number of answers at which half of the replicas have reached
E >= 1e2 and E >= 1e6. ``none`` is "independent text" (rate gamma), a number is "unrelated model" (rate up to
gamma + m). The second form turns it round: the shares at which the median is so many answers to E >= 1e6.

The default share .6915 is that of the lab owner's demo triggers: mean z 2.17 at 32.1 types (docs/forging.md).
"""

import argparse
import itertools
import json
import math
import sys

import numpy as np
from numpy.typing import NDArray

from benchmarks.sequential.replicas import Replicas

OWNER_TYPES = 32.1
OWNER_Z = 2.17
OWNER_SHARE = 0.5 + OWNER_Z * 0.5 / math.sqrt(OWNER_TYPES)
"""Green share of the lab owner's demo triggers, from their mean z and types at gamma = .5."""


def answers_needed(
    share: float,
    *,
    transfer: float | None = None,
    log_targets: tuple[float, ...] = (math.log(1e2), math.log(1e6)),
    types: float = OWNER_TYPES,
    replicas: int = 1000,
    max_answers: int = 400,
    vocab_size: int = 4096,
    gamma: float = 0.5,
    seed: int = 0,
) -> list[float]:
    """Median number of answers until E reaches each of ``log_targets``; infinity beyond ``max_answers``.

    Stops once half of the replicas have reached the largest target. The same ``seed`` uses the same random
    numbers for every share, so that the result falls as the share rises.
    """
    generator = np.random.default_rng(seed)
    green_size = math.floor(gamma * vocab_size + 0.5)
    process = Replicas(replicas, vocab_size=vocab_size, green_size=green_size, transfer=transfer)
    reached = np.full((len(log_targets), replicas), math.inf)
    for answer in range(max_answers):
        for _ in range(round(types * (answer + 1)) - round(types * answer)):
            process.step(answer, generator.uniform(size=replicas) < share)
        for place, target in enumerate(log_targets):
            reached[place, np.isinf(reached[place]) & (process.max_log_e >= target)] = answer + 1
        if np.isfinite(reached[int(np.argmax(log_targets))]).mean() > 0.5:
            break
    return [_median(row) for row in reached]


def _median(counts: NDArray[np.float64]) -> float:
    """Smallest count that at least half have reached."""
    return float(np.sort(counts)[(len(counts) - 1) // 2])


def shares_for(
    answers: int, *, transfer: float | None = None, replicas: int = 1000, gamma: float = 0.5, seed: int = 0
) -> tuple[float, float]:
    """Smallest and largest share (to .001) whose median is ``answers`` answers to E >= 1e6."""
    first = gamma + (transfer or 0.0)

    def smallest(at_most: int) -> float:
        low, high = first, 1.0
        while high - low > 5e-4:
            middle = (low + high) / 2
            [median] = answers_needed(
                middle,
                transfer=transfer,
                log_targets=(math.log(1e6),),
                replicas=replicas,
                max_answers=at_most,
                gamma=gamma,
                seed=seed,
            )
            low, high = (low, middle) if median <= at_most else (middle, high)
        return high

    return smallest(answers), smallest(answers - 1)


def _transfer(text: str) -> float | None:
    return None if text == "none" else float(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--share", type=float, nargs="+", default=[0.60, 0.65, round(OWNER_SHARE, 4), 0.75])
    parser.add_argument("--transfer", type=_transfer, nargs="+", default=[None, 0.0, 0.03, 0.076])
    parser.add_argument("--answers", type=int, nargs="+", help="find the shares for these medians instead")
    parser.add_argument("--types", type=float, default=OWNER_TYPES)
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--max-answers", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: list[dict[str, float | None]] = []
    if arguments.answers:
        for answers, transfer in itertools.product(arguments.answers, arguments.transfer):
            low, high = shares_for(
                answers, transfer=transfer, replicas=arguments.replicas, seed=arguments.seed
            )
            rows.append({"answers": answers, "transfer": transfer, "share_from": low, "share_to": high})
    else:
        for share, transfer in itertools.product(arguments.share, arguments.transfer):
            suspicious, confirmed = answers_needed(
                share,
                transfer=transfer,
                types=arguments.types,
                replicas=arguments.replicas,
                max_answers=arguments.max_answers,
                seed=arguments.seed,
            )
            rows.append(
                {
                    "share": share,
                    "transfer": transfer,
                    "answers_to_1e2": suspicious if math.isfinite(suspicious) else None,
                    "answers_to_1e6": confirmed if math.isfinite(confirmed) else None,
                }
            )
    if arguments.json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    sys.stdout.write("".join(f"{name:>16}" for name in rows[0]) + "\n")
    for row in rows:
        cells = {
            name: "none"
            if name == "transfer" and value is None
            else f"> {arguments.max_answers}"
            if value is None
            else f"{value:g}"
            for name, value in row.items()
        }
        sys.stdout.write("".join(f"{cell:>16}" for cell in cells.values()) + "\n")


if __name__ == "__main__":
    main()
