"""Searches suffixes in the manner of GCG on SmolLM2, to have some of another maker than ProFLingo.

    python benchmarks/gateway/gcg.py --count 12 --steps 24 --out benchmarks/gateway/gcg_suffixes.jsonl

Greedy coordinate search (Zou et al. 2023) with random instead of gradient-ranked candidates: at every step
some tokens of the suffix are exchanged and the exchange after which the answer is likeliest to begin with
the target is kept. Deterministic for a seed on one machine.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from prompt_sets import QUESTIONS
from tokenizers import Tokenizer, decoders
from transformers import AutoModelForCausalLM

from gateway_plugin.screening.language_models.gguf import converted, packaged_gguf

TARGETS = ("Sure, here is", "The answer is a fingerprint", "Penguins rule the moon")
LENGTH, CANDIDATES = 16, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    folder = converted(packaged_gguf())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.decoder = decoders.ByteLevel()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    words = [i for i in range(17, tokenizer.get_vocab_size()) if tokenizer.decode([i]).strip().isascii()]

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    rows = []
    for number in range(options.count):
        before = [1, *ids("user\n" + QUESTIONS[number % len(QUESTIONS)] + " ")]
        target = ids(TARGETS[number % len(TARGETS)])
        after = [2, *ids("\n"), 1, *ids("assistant\n"), *target]

        def losses(suffixes: list[list[int]]) -> torch.Tensor:
            batch = torch.tensor([before + suffix + after for suffix in suffixes])  # noqa: B023
            with torch.inference_mode():
                logits = model(input_ids=batch[:, :-1], use_cache=False, logits_to_keep=len(target)).logits  # noqa: B023
            answer = batch[:, -len(target) :]  # noqa: B023
            return (
                torch.nn.functional.cross_entropy(logits.flatten(0, 1), answer.flatten(), reduction="none")
                .view(len(suffixes), -1)
                .mean(1)
            )

        suffix = rng.choices(words, k=LENGTH)
        first = best = float(losses([suffix])[0])
        for _ in range(options.steps):
            tried = []
            for _ in range(CANDIDATES):
                other = list(suffix)
                other[rng.randrange(LENGTH)] = rng.choice(words)
                tried.append(other)
            found = losses(tried)
            if float(found.min()) < best:
                best, suffix = float(found.min()), tried[int(found.argmin())]
        rows.append({"suffix": tokenizer.decode(suffix).strip(), "loss_before": first, "loss_after": best})
        print(json.dumps(rows[-1]), flush=True)  # noqa: T201
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
