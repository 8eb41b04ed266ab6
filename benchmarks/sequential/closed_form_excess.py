"""How far the closed form of the e-process exceeds mean 1 under the worst stopping rule.

    python -m benchmarks.sequential.closed_form_excess [--vocab-size 4096] [--types 32 4096] [--json]

``log_evalue_beta`` takes the green rate to stay gamma, but the distinct types of one key are drawn without
replacement. One key, its first ``--types`` types (all by default), a stopper who sees every colour so far:
backward induction over (greens, reds) gives the largest mean that any stopping rule reaches. It runs in ratio
form, value/M with M the closed form, so that nothing under- or overflows. With ``--keys 2`` the stopper may
also choose which of two keys to draw from next (brute force: small vocabularies or few types only).
"""

import argparse
import itertools
import json
import math
import sys
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.evalue_beta import log_evalue_beta


def log_closed_form(types: int, gamma: float) -> list[NDArray[np.float64]]:
    """``log M(S, t - S)`` for S = 0 .. t, by t = 0 .. ``types``.

    The last diagonal comes from the closed form; each one before it from M(S, F) = gamma M(S+1, F) +
    (1 - gamma) M(S, F+1), which holds for every mixture of bets and adds positive numbers only.
    """
    last = [log_evalue_beta(successes=s, failures=types - s, gamma=gamma) for s in range(types + 1)]
    diagonals = [np.array(last)]
    for _ in range(types):
        later = diagonals[-1]
        diagonals.append(np.logaddexp(math.log(gamma) + later[1:], math.log1p(-gamma) + later[:-1]))
    return diagonals[::-1]


def excess(vocab_size: int, green_size: int, *, types: int | None = None) -> float:
    """Largest mean of the closed form over all stopping rules, minus 1: one key, drawn without replacement.

    Args:
        vocab_size: V.
        green_size: N_g; the closed form is told the rate N_g/V.
        types: the stopper sees at most so many types; None for all V.
    """
    types = vocab_size if types is None else types
    logs = log_closed_form(types, green_size / vocab_size)
    surplus = np.zeros(types + 1)  # value/M - 1 on the last diagonal: nothing left but to stop
    for t in range(types - 1, -1, -1):
        greens = np.arange(t + 1)
        rate = np.clip((green_size - greens) / (vocab_size - t), 0.0, 1.0)
        green, red = np.exp(logs[t + 1][1:] - logs[t]), np.exp(logs[t + 1][:-1] - logs[t])
        # going on: value/M - 1 of the mean of the next step; stopping: 0
        onward = (
            rate * green * surplus[1:] + (1 - rate) * red * surplus[:-1] + rate * green + (1 - rate) * red - 1
        )
        surplus = np.maximum(onward, 0.0)
        # a state that the urn cannot reach has no say
        surplus[(greens > green_size) | (t - greens > vocab_size - green_size)] = 0.0
    return float(surplus[0])


def excess_of_keys(vocab_size: int, green_size: int, *, keys: int, types: int | None = None) -> float:
    """The same over several keys, where the stopper also chooses the key to draw from next; brute force."""
    gamma = green_size / vocab_size

    @cache
    def value(state: tuple[tuple[int, int], ...]) -> float:
        greens, reds = sum(g for g, _ in state), sum(r for _, r in state)
        best = math.exp(log_evalue_beta(successes=greens, failures=reds, gamma=gamma))
        for place, (g, r) in enumerate(state):
            left = vocab_size - g - r
            if not left or g + r == types:
                continue
            rate, onward = (green_size - g) / left, 0.0
            for probability, drawn in ((rate, (g + 1, r)), (1 - rate, (g, r + 1))):
                if probability > 0:  # keys are alike, so that their order does not matter
                    following = tuple(sorted((*state[:place], drawn, *state[place + 1 :])))
                    onward += probability * value(following)
            best = max(best, onward)
        return best

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 4 * keys * vocab_size + 1000))
    try:
        return value(((0, 0),) * keys) - 1
    finally:
        sys.setrecursionlimit(limit)


def brute_force(vocab_size: int, green_size: int) -> float:
    """:func:`excess` once more, by walking every path: for tiny vocabularies, to check the induction."""
    gamma = green_size / vocab_size

    def value(path: tuple[bool, ...]) -> float:
        greens, left = sum(path), vocab_size - len(path)
        stopped = math.exp(log_evalue_beta(successes=greens, failures=len(path) - greens, gamma=gamma))
        if not left:
            return stopped
        rate = (green_size - greens) / left
        steps = ((rate, True), (1 - rate, False))
        return max(stopped, math.fsum(p * value((*path, colour)) for p, colour in steps if p > 0))

    return value(()) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--vocab-size", type=int, nargs="+", default=[16, 64, 256, 1024, 4096])
    parser.add_argument("--gamma", type=float, nargs="+", default=[0.5])
    parser.add_argument("--types", type=int, nargs="+", default=[None], help="types seen at most, of V")
    parser.add_argument("--keys", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for vocab_size, gamma, types in itertools.product(arguments.vocab_size, arguments.gamma, arguments.types):
        greens, limit = math.floor(gamma * vocab_size + 0.5), min(types or vocab_size, vocab_size)
        found = (
            excess(vocab_size, greens, types=limit)
            if arguments.keys == 1
            else excess_of_keys(vocab_size, greens, keys=arguments.keys, types=limit)
        )
        rows.append(
            {
                "vocab_size": vocab_size,
                "gamma": gamma,
                "types": limit,
                "keys": arguments.keys,
                "excess": found,
            }
        )
    if arguments.json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    lines = [f"{'V':>6}{'gamma':>7}{'types':>7}{'keys':>6}  mean under the worst stopping rule, minus 1"]
    lines += [
        f"{row['vocab_size']:6d}{row['gamma']:7.2f}{row['types']:7d}{row['keys']:6d}  {row['excess']:.3g}"
        for row in rows
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
