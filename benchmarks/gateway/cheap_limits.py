# ruff: noqa: T201
"""The cheap model's limits by script, from text that was kept from its training and from benign prompts.

    python benchmarks/gateway/cheap_limits.py --held-out held_out.jsonl --benign A.jsonl > limits.yaml

A script's limits are quantiles of the worst window over its held-out lines, with a margin because prompts
are not documentation: clear = 95 % + .75 bits, suspect = 99.5 % + 1.5 bits. Scripts with fewer than 100
lines get no limits. Latin's clear is the 90 % quantile + .25 bits of the first half of the benign prompts
(seeded as in thresholds.py); its suspect is out of reach, for code, formulas and base64 are written in it
too.
"""

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np

from gateway_plugin.screening.cheap.check import WINDOW
from gateway_plugin.screening.cheap.hashing import seen_characters
from gateway_plugin.screening.cheap.model import CharacterModel
from gateway_plugin.screening.cheap.scripts import SCRIPTS, carried, letter_scripts

LONGEST, FEWEST = 250, 100
LATIN_SUSPECT = 20.0  # out of reach
TABLE = Path(__file__).parents[2] / "gateway_plugin/screening/cheap/characters.safetensors"


def prompts(path: Path) -> list[str]:
    return [json.loads(line)["prompt"] for line in path.read_text(encoding="utf-8").split("\n") if line]


def worst_window(bits: np.ndarray) -> float:
    if len(bits) <= WINDOW:
        return float(bits.mean())
    sums = np.concatenate([[0.0], np.cumsum(bits, dtype=np.float64)])
    return float((sums[WINDOW:] - sums[:-WINDOW]).max() / WINDOW)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--held-out", type=Path, required=True, help="what train.py --held-out wrote")
    parser.add_argument("--benign", type=Path, action="append", required=True)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = CharacterModel.load(options.table)
    benign = [prompt for path in options.benign for prompt in prompts(path)]
    random.Random(options.seed).shuffle(benign)
    windows = [worst_window(model.surprisals(seen_characters(text))) for text in benign[: len(benign) // 2]]
    found: dict[str, list[float]] = defaultdict(list)
    for text in prompts(options.held_out):
        codes = seen_characters(text)[:LONGEST]
        if len(codes) < WINDOW:
            continue
        scripts = carried(letter_scripts(codes))
        common = int(np.bincount(scripts).argmax())
        window = worst_window(model.surprisals(codes))
        if (scripts == SCRIPTS.index("hiragana")).mean() >= 0.2:  # Japanese, in which no script is common
            found["hiragana"].append(window)
            found["katakana"].append(window)
        elif (scripts == common).mean() >= 0.6:
            found[SCRIPTS[common]].append(window)
    print("# Bits per character in the worst window of 24; made by benchmarks/gateway/cheap_limits.py.")
    clear = np.quantile(windows, 0.9) + 0.25
    print(f"latin: {{clear: {clear:.1f}, suspect: {LATIN_SUSPECT}}}  # {len(windows)} prompts")
    for name in sorted(set(found) - {"latin"}):
        if len(found[name]) >= FEWEST:
            q95, q995 = np.quantile(found[name], [0.95, 0.995])
            limits = f"clear: {q95 + 0.75:.1f}, suspect: {q995 + 1.5:.1f}"
            print(f"{name}: {{{limits}}}  # {len(found[name])} lines")


if __name__ == "__main__":
    main()
