"""What the reference language model costs, alone and in batches of 16, and what fewer bits do to its numbers.

    OMP_NUM_THREADS=1 python benchmarks/gateway/batching.py [--precision int8 ...] [--prompts FILE.jsonl ...]

CPU time of this process on one thread (not wall time: the machine may be busy), smallest and median over the
repetitions; single prompts and batches alternate, so that both meet the same machine. Prompts are English
stretches of one length in tokens, scored as a client's text is, tokenizer included. With ``--prompts``
(rows with a "prompt"), the surprisals and the worst windows of up to 40 are compared with float32's.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from tokenizers import Tokenizer

from gateway_plugin.prompts import read_prompts
from gateway_plugin.screening.language_models.base import LanguageModel, Precision
from gateway_plugin.screening.language_models.gguf import converted, packaged_gguf
from gateway_plugin.screening.language_models.loading import load_language_model
from gateway_plugin.screening.perplexity import worst_window

BATCH = 16
MAX_TOKENS = 128
PROSE = (
    "Please describe what the two people in the foreground are doing, how old the building behind them might "
    "be, and whether the writing on the sign above the door can be read from here. If anything in it "
    "looks as though it had been added later, say where it is and why you think so. Keep the answer short."
)


def texts_of(tokens: int, *, count: int, tokenizer: Tokenizer) -> list[str]:
    """Texts that are cut into exactly so many tokens: stretches of :data:`PROSE` from different words on."""
    words = PROSE.split()
    found: list[str] = []
    for start in range(len(words)):
        turned = " ".join([*words[start:], *words[:start]])
        encoded = tokenizer.encode(turned, add_special_tokens=False)
        text = turned[: encoded.offsets[tokens - 1][1]]
        if len(tokenizer.encode(text, add_special_tokens=False).ids) == tokens:
            found.append(text)
        if len(found) == count:
            return found
    raise SystemExit(f"no {count} texts of {tokens} tokens")


def cpu_ms(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1e3


def cost(model: LanguageModel, texts: Sequence[str], *, repeats: int) -> dict[str, float]:
    """CPU milliseconds a prompt, alone and in a batch."""
    alone: list[float] = []
    together: list[float] = []
    for repeat in range(repeats + 1):
        single = cpu_ms(lambda: model.token_surprisals(texts[:1], max_tokens=MAX_TOKENS))
        batch = cpu_ms(lambda: model.token_surprisals(texts, max_tokens=MAX_TOKENS)) / len(texts)
        if repeat:  # the first round warms up
            alone.append(single)
            together.append(batch)
    return {
        "single_min_ms": round(min(alone), 1),
        "single_median_ms": round(statistics.median(alone), 1),
        "batched_min_ms": round(min(together), 1),
        "batched_median_ms": round(statistics.median(together), 1),
        "throughput_ratio": round(min(alone) / min(together), 2),
    }


def distortion(model: LanguageModel, exact: LanguageModel, prompts: list[str]) -> dict[str, float]:
    """Differences in nats to float32: of single tokens, and of the worst window of 8."""
    ours = model.token_surprisals(prompts, max_tokens=MAX_TOKENS)
    theirs = exact.token_surprisals(prompts, max_tokens=MAX_TOKENS)
    tokens = np.concatenate([np.abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True)])
    windows = np.array(
        [worst_window(a) - worst_window(b) for (a, _), (b, _) in zip(ours, theirs, strict=True) if len(a)]
    )
    return {
        "prompts": len(prompts),
        "token_mean_abs": round(float(tokens.mean()), 3),
        "token_p99_abs": round(float(np.quantile(tokens, 0.99)), 3),
        "window_mean": round(float(windows.mean()), 3),
        "window_sd": round(float(windows.std()), 3),
        "window_max_abs": round(float(np.abs(windows).max()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--precision", action="append", choices=get_args(Precision))
    parser.add_argument("--tokens", type=int, action="append", help="prompt lengths (8, 12 and 30)")
    parser.add_argument("--prompts", type=Path, action="append", default=[])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(converted(packaged_gguf()) / "tokenizer.json"))
    prompts: list[str] = []
    for path in options.prompts:
        found = list(read_prompts(str(path)))
        prompts += random.Random(0).sample(found, min(10, len(found)))
    report: dict[str, Any] = {}
    for precision in options.precision or get_args(Precision):
        model = load_language_model("smollm2", precision=precision)
        row: dict[str, Any] = {}
        for tokens in options.tokens or (8, 12, 30):
            texts = texts_of(tokens, count=BATCH, tokenizer=tokenizer)
            row[f"{tokens} tokens"] = cost(model, texts, repeats=options.repeats)
        if prompts and precision != "fp32":
            exact = load_language_model("smollm2", precision="fp32")
            row["distortion_nats"] = distortion(model, exact, prompts[:40])
        report[precision] = row
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
