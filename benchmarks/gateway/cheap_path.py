"""Processor time of the cheap path, and what it decides alone, by kind of prompt.

    python benchmarks/gateway/cheap_path.py --prompts tests/gateway/data/hard_negatives.jsonl

Times are of this process alone (other work on the machine does not count into them), after a warm-up, over
batches of 200 prompts of about 30 tokens (130 characters): median and worst of 20 batches. `long` is one
text of 100,000 characters.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from gateway_plugin.screening.base import Query
from gateway_plugin.screening.cascade import CascadeCheck
from gateway_plugin.screening.cheap.check import shared_cheap_check
from gateway_plugin.screening.script_mixing import ScriptMixingCheck

SENTENCES = (
    "What is the name of the building in the background of this photo, and in which year did the architect "
    "finish it? Answer briefly.",
    "Please rewrite this paragraph so that a ten-year-old can follow it, keep every number, and leave out "
    "the last two sentences of it.",
    "Опишите, пожалуйста, подробно, что изображено на этой фотографии, и скажите, сколько человек стоит у "
    "входа в старое здание театра.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=Path, action="append", default=[])
    options = parser.parse_args()
    cascade, mixing = CascadeCheck(cheap=shared_cheap_check(), neural=None), ScriptMixingCheck()

    def seconds(texts: list[str]) -> float:
        started = time.process_time()
        for text in texts:
            cascade.decide(text)
            mixing.score(Query(texts=(text,)))
        return (time.process_time() - started) / len(texts)

    batch = [f"{number} {SENTENCES[number % len(SENTENCES)]}" for number in range(200)]
    seconds(batch)
    times = [seconds(batch) * 1000 for _ in range(20)]
    report: dict[str, object] = {
        "ms_a_prompt": {"median": round(statistics.median(times), 4), "worst": round(max(times), 4)},
        "ms_long": round(seconds([(SENTENCES[0] * 1000)[:100_000]]) * 1000, 1),
    }
    for path in options.prompts:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        decided: dict[str, Counter[str]] = defaultdict(Counter)
        for row in rows:
            found = cascade.decide(row["prompt"])
            said = "left to the neural model" if found is None else found.status.value
            decided[row.get("kind", "all")][said] += 1
        report[path.stem] = {kind: dict(count) for kind, count in decided.items()}
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
