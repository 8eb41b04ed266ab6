# ruff: noqa: T201
"""Trains the cheap language model's table. Deterministic: the same packages give the same file.

python benchmarks/gateway/cheap_corpus/train.py --packages DIR --out characters.safetensors
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from corpus import build
from safetensors.numpy import save

from gateway_plugin.screening.cheap.hashing import LAYOUT, ORDERS, context_keys, gram_keys, mixed, seen_text
from gateway_plugin.screening.cheap.model import FLOOR, STEPS

DISCOUNT = 0.75
TABLE_BITS = 21
U64 = np.uint64


class Training(NamedTuple):
    """All texts in one row of characters with gaps between: ``(N,)`` each.

    weights: how often a character counts, 0 in the gaps. reach: the longest context that may be used.
    """

    codes: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]
    reach: npt.NDArray[np.int8]


def joined(lines: list[str], words: list[tuple[str, int]]) -> Training:
    gap = "\0" * (ORDERS - 1)
    text: list[str] = [gap]
    weights: list[npt.NDArray[np.float32]] = [np.zeros(len(gap), dtype=np.float32)]
    reach: list[npt.NDArray[np.int8]] = [np.zeros(len(gap), dtype=np.int8)]
    nothing = weights[0], reach[0]
    for line in lines:
        seen = seen_text(line)
        text += [seen, gap]
        weights += [np.ones(len(seen), dtype=np.float32), nothing[0]]
        reach += [np.full(len(seen), ORDERS, dtype=np.int8), nothing[1]]
    for word, times in words:
        # a word counts from the space before it to the space after it, and says nothing of its neighbours
        seen = f" {seen_text(word)} "
        text += [seen, gap]
        inside = np.full(len(seen), times, dtype=np.float32)
        inside[0] = 0
        weights += [inside, nothing[0]]
        reach += [np.minimum(np.arange(len(seen)), ORDERS).astype(np.int8), nothing[1]]
    codes = np.frombuffer("".join(text).encode("utf-32-le"), dtype=np.uint32)
    return Training(codes, np.concatenate(weights), np.concatenate(reach))


def train(training: Training, *, least_gain: float) -> npt.NDArray[np.uint16]:
    """The table. ``least_gain``: an n-gram is kept from count x log2(p / p of the shorter context) on."""
    real = training.weights > 0
    weights, reach = training.weights[real], training.reach[real]
    below = np.full(len(weights), FLOOR, dtype=np.float32)
    entries: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
    least = 2.0 ** (-254 / STEPS)
    for order, keys in enumerate(context_keys(training.codes)):
        contexts, grams = mixed(keys), mixed(gram_keys(keys, training.codes))
        usable = np.flatnonzero(reach >= order)
        gram, first, which = np.unique(grams[real][usable], return_index=True, return_inverse=True)
        count = np.bincount(which, weights=weights[usable])
        context, parent = np.unique(contexts[real][usable][first], return_inverse=True)
        total = np.bincount(parent, weights=count)
        distinct = np.bincount(parent)
        f = np.maximum(count - DISCOUNT, 0.0) / total[parent]
        b = np.minimum(1.0, DISCOUNT * distinct / total)
        shorter = below[usable][first]
        gain = np.maximum(count * np.log2(np.maximum(f + b[parent] * shorter, 1e-30) / shorter), 0.0)
        keep = (f >= least) & ((gain >= least_gain) & (count >= 2) if order else True)
        kept_sum = np.bincount(parent[keep], weights=f[keep], minlength=len(context))
        has = kept_sum > 0
        back = np.where(has, np.clip(1.0 - kept_sum, least, 1.0), 1.0)
        first_of_all = 0.0 if order else 1e12  # nothing may displace these
        entries.append((gram[keep], f[keep], gain[keep] + first_of_all))
        worth = np.bincount(parent[keep], weights=gain[keep], minlength=len(context))
        entries.append((context[has], back[has], worth[has] + 1.0 + first_of_all))
        below[usable] = np.where(keep, f, 0.0)[which] + back[parent[which]] * below[usable]
        bits = float(-np.log2(below[usable]) @ weights[usable] / weights[usable].sum())
        print(
            f"{order} characters before: {keep.sum()} n-grams, {has.sum()} contexts, {bits:.3f} bits each",
            flush=True,
        )
    return placed(entries)


def placed(
    entries: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64], npt.NDArray[np.float64]]],
) -> npt.NDArray[np.uint16]:
    """Of entries that share a place the one that is worth most stays."""
    keys, values, worth = (np.concatenate(column) for column in zip(*entries, strict=True))
    order = np.lexsort((keys, worth))  # later writes win
    keys, values = keys[order], values[order]
    table = np.full(1 << TABLE_BITS, 0xFF, dtype=np.uint16)
    quantised = np.clip(np.rint(-np.log2(values) * STEPS), 0, 254).astype(np.uint16)
    place = (keys & U64(len(table) - 1)).astype(np.intp)
    table[place] = ((keys >> U64(56)).astype(np.uint16) << np.uint16(8)) | quantised
    print("entries", len(keys), "filled", float((table & 0xFF != 0xFF).mean()))
    return table


def serialised(table: npt.NDArray[np.uint16]) -> bytes:
    return save({"table": table}, metadata={"layout": str(LAYOUT)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="the folder that fetch.sh filled")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, help="write the lines kept from training here (JSON lines)")
    parser.add_argument("--least-gain", type=float, default=18.0)
    options = parser.parse_args()
    corpus = build(options.packages / "x", options.packages / "wheels")
    if options.held_out:
        rows = (json.dumps({"language": language, "prompt": line}) for language, line in corpus.held_out)
        options.held_out.write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = [line for _, line in corpus.lines]
    print(len(lines), "lines", sum(map(len, lines)), "characters", len(corpus.words), "words", flush=True)
    data = serialised(train(joined(lines, corpus.words), least_gain=options.least_gain))
    options.out.write_bytes(data)
    print("sha256", hashlib.sha256(data).hexdigest())


if __name__ == "__main__":
    main()
