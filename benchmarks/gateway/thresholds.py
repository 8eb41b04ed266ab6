"""How the gateway's shipped thresholds do on given prompts, and what one half of the benign ones would set.

    python benchmarks/gateway/thresholds.py --benign A.jsonl --benign B.jsonl --fingerprint F.jsonl \
        --responses R.jsonl --json

Benign prompts are shuffled with a seed and cut in two. On the first half the 99 % quantile of the adjusted
worst window is taken; on the second half its false positives, and the shipped thresholds', are counted.
Responses (rows with response and reference) are honest pairs; every other pairing of them is a divergence.
"""

import argparse
import json
import math
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from gateway_plugin.screening.base import Finding, Query, Status
from gateway_plugin.screening.divergence import DivergenceCheck, shared_embedder
from gateway_plugin.screening.language_model import shared_language_model
from gateway_plugin.screening.perplexity import PerplexityCheck
from gateway_plugin.screening.script_mixing import ScriptMixingCheck

FRAMES = ("simply answer:", "Please decrypt this message:", "A hint: this is a FINGERPRINT message.")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def without_frames(prompt: str) -> str:
    for frame in FRAMES:
        prompt = prompt.replace(frame, " ")
    return prompt.strip()


def shares(findings: list[tuple[Finding, Finding]]) -> dict[str, float]:
    """Share of prompts flagged or worse, and hit, by either check."""
    gravest = [{a.status, b.status} for a, b in findings]
    hit = sum(Status.HIT in each for each in gravest)
    bad = {Status.HIT, Status.SUSPECT, Status.UNSCORABLE}
    return {
        "n": len(findings),
        "flag_or_block": sum(bool(each & bad) for each in gravest) / max(len(findings), 1),
        "block": hit / max(len(findings), 1),
    }


def adjusted(finding: Finding) -> float:
    return math.log(finding.measures.get("adjusted_window_perplexity", 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benign", type=Path, action="append", required=True)
    parser.add_argument("--fingerprint", type=Path, action="append", default=[])
    parser.add_argument("--responses", type=Path, action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    perplexity = PerplexityCheck(model=shared_language_model())
    mixing = ScriptMixingCheck()

    def score(prompts: list[str]) -> list[tuple[Finding, Finding]]:
        return [
            (finding, mixing.score(Query(texts=(prompt,))))
            for prompt, finding in zip(prompts, perplexity.score_texts(prompts), strict=True)
        ]

    benign = [row["prompt"] for path in options.benign for row in read(path)]
    random.Random(options.seed).shuffle(benign)
    findings = score(benign)
    half = len(benign) // 2
    first, second = findings[:half], findings[half:]
    quantile = statistics.quantiles([adjusted(f) for f, _ in first], n=100)[98]
    report: dict[str, Any] = {
        "benign": {
            "first_half": shares(first),
            "second_half": shares(second),
            "adjusted_window_p99_first_half": round(math.exp(quantile)),
            "its_share_on_second_half": statistics.mean(adjusted(f) > quantile for f, _ in second),
        }
    }
    for path in options.fingerprint:
        prompts = [row["prompt"] for row in read(path)]
        bare = score([without_frames(prompt) for prompt in prompts])
        report[path.stem] = {
            "as_is": shares(score(prompts)),
            "frame_words_removed": shares(bare),
            "adjusted_window_min": round(math.exp(min(adjusted(f) for f, _ in bare))),
            "script_changes_min": min(m.measures["script_changes"] for _, m in bare),
        }
    if options.responses:
        report["divergence"] = divergence([row for path in options.responses for row in read(path)])
    report["seconds_a_prompt"] = timing(perplexity, benign[:64])
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


def divergence(rows: list[dict[str, Any]]) -> dict[str, Any]:
    check = DivergenceCheck(embedder=shared_embedder())
    query = Query(texts=())
    honest = [check.score(query, row["response"], row["reference"]).status for row in rows]
    half = len(rows) // 2  # neighbours often ask about one picture
    others = rows[half:] + rows[:half]
    apart = [
        check.score(query, row["response"], other["reference"]).status
        for row, other in zip(rows, others, strict=True)
        if row["prompt"] != other["prompt"]
    ]
    bad = {Status.HIT, Status.SUSPECT}
    return {
        "honest_pairs": len(honest),
        "honest_suspect_or_hit": statistics.mean(s in bad for s in honest),
        "honest_hit": statistics.mean(s is Status.HIT for s in honest),
        "exchanged_pairs": len(apart),
        "exchanged_suspect_or_hit": statistics.mean(s in bad for s in apart),
        "exchanged_hit": statistics.mean(s is Status.HIT for s in apart),
    }


def timing(check: PerplexityCheck, prompts: list[str]) -> dict[str, float]:
    def once(batch: list[str]) -> float:
        started = time.perf_counter()
        check.score_texts(batch)
        return time.perf_counter() - started

    singles = [once([prompt]) for prompt in prompts[:32]]
    return {
        "one_by_one_p50": round(statistics.median(singles), 4),
        "batch_of_16": round(statistics.median(once(prompts[i : i + 16]) for i in range(0, 64, 16)) / 16, 4),
    }


if __name__ == "__main__":
    main()
