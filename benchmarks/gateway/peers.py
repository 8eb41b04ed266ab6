"""Two other projects' checks on the same prompts, as they ship, in an environment of their own.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install nemoguardrails torch transformers llm-guard
    /tmp/peers/bin/python benchmarks/gateway/peers.py --benign A.jsonl --fingerprint F.jsonl

NeMo Guardrails' jailbreak heuristics (length per perplexity, prefix and suffix perplexity) want gpt2-large,
LLM Guard's gibberish scanner a classifier; both come from the Hugging Face hub. What cannot be loaded is
reported as such and nothing is put in its place. Imports nothing of this project.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

Check = Callable[[str], bool]
LENGTH_PER_PERPLEXITY, PREFIX_SUFFIX_PERPLEXITY = 89.79, 1845.65  # NeMo Guardrails' own defaults


def nemo() -> Check:
    from nemoguardrails.library.jailbreak_detection.heuristics import checks

    def flagged(prompt: str) -> bool:
        return bool(
            checks.check_jailbreak_length_per_perplexity(prompt, LENGTH_PER_PERPLEXITY)["jailbreak"]
            or checks.check_jailbreak_prefix_suffix_perplexity(prompt, PREFIX_SUFFIX_PERPLEXITY)["jailbreak"]
        )

    return flagged


def llm_guard() -> Check:
    from llm_guard.input_scanners import Gibberish

    scanner = Gibberish()
    return lambda prompt: not scanner.scan(prompt)[1]


def prompts(path: Path) -> list[str]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip())
    return [row["prompt"] for row in rows]


def measured(check: Check, texts: list[str]) -> dict[str, float]:
    """Share of the prompts that are flagged, and the median CPU time a prompt in ms."""
    flagged, seconds = 0, []
    for text in texts:
        began = time.process_time()
        flagged += check(text)
        seconds.append(time.process_time() - began)
    return {"n": len(texts), "flagged": flagged / len(texts), "cpu_ms_p50": 1e3 * statistics.median(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benign", type=Path, action="append", default=[])
    parser.add_argument("--fingerprint", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    sets = {str(path): prompts(path) for path in [*arguments.benign, *arguments.fingerprint]}
    for name, load in (("NeMo Guardrails jailbreak heuristics", nemo), ("LLM Guard Gibberish", llm_guard)):
        try:
            check = load()
        except Exception as error:  # whatever a missing package or an unreachable hub raises
            row: dict[str, object] = {"not_run": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        else:
            row = {path: measured(check, texts) for path, texts in sets.items()}
        sys.stdout.write(json.dumps({"check": name, **row}) + "\n")


if __name__ == "__main__":
    main()
