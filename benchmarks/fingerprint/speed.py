"""Speed of scoring, each time beside a floor or a peer that ran in the same minute on the same machine.

    OMP_NUM_THREADS=1 python -m benchmarks.fingerprint.speed           # a Markdown table
    OMP_NUM_THREADS=1 python -m benchmarks.fingerprint.speed --json

A time is the best of several runs, so that a busy machine decides less; compare ratios, not seconds.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.fingerprint.tables import markdown, say
from benchmarks.fingerprint.texts import Corpus, corpus, tokenizer
from sif_offline.fingerprint.context_scoring import score_context_ids
from sif_offline.fingerprint.greenlist import DEFAULT_SCHEME, green_mask
from sif_offline.fingerprint.kgw import HASH_KEY, hash_table
from sif_offline.fingerprint.random_keys import random_key_null, real_key_null
from sif_offline.fingerprint.response import exact_pvalue, score_ids
from sif_offline.fingerprint.tails import hypergeometric

RESPONSES, TOKENS, KEYS = 1000, 200, 10_000


class Line(NamedTuple):
    """What ran, how long, and beside what."""

    what: str
    seconds: float
    peer: str
    peer_seconds: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.peer_seconds


def each(results: Iterable[object]) -> None:
    """Run a generator out, keeping nothing, so that no page is new to the process."""
    for _ in results:
        pass


def best(function: Callable[[], object], *, runs: int = 3) -> float:
    """Seconds of the quickest of ``runs`` calls."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def responses(data: Corpus) -> Iterator[Line]:
    """Text to p, for many answers."""
    say("responses")
    texts = [tokenizer().decode(ids) for ids in data.texts]

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer().encode(text, add_special_tokens=False).ids
        return ids

    shared = green_mask(key=1, vocab_size=data.vocab_size)

    def own_mask(key: int) -> np.ndarray:
        return green_mask(key=key, vocab_size=data.vocab_size)

    floor = best(lambda: each(encode(text) for text in texts))
    name = f"{len(texts):,} answers of {TOKENS} tokens, text to p, V = {data.vocab_size:,}"
    one_key = best(lambda: each(score_ids(encode(text), mask=shared) for text in texts))
    yield Line(f"{name}: one key", one_key, "tokenising alone (floor)", floor)
    own_keys = best(lambda: each(score_ids(encode(text), mask=own_mask(n)) for n, text in enumerate(texts)))
    yield Line(f"{name}: a key each", own_keys, "tokenising alone (floor)", floor)


def random_keys(vocab_size: int) -> Iterator[Line]:
    """The random-key null beside real keys and beside one scipy call a key."""
    say(f"random keys, V = {vocab_size}")
    ids = np.random.default_rng(0).integers(0, vocab_size, size=TOKENS)
    mask = green_mask(key=0, vocab_size=vocab_size)
    types, greens = len(set(ids.tolist())), int(mask.sum())
    ours = best(lambda: random_key_null(ids, mask=mask, keys=KEYS), runs=5)
    what = f"random-key null, {KEYS:,} keys, {TOKENS} tokens, V = {vocab_size:,}"
    tenth = KEYS // 10
    calls = best(lambda: each(stats.hypergeom.sf(g % types, vocab_size, greens, types) for g in range(tenth)))
    yield Line(what, ours, f"`scipy.stats.hypergeom.sf` once a key (measured on {tenth:,})", 10 * calls)
    few = KEYS // 50
    lists = best(lambda: each(green_mask(key=k, vocab_size=vocab_size) for k in range(few)))
    real = best(lambda: real_key_null(ids, mask=mask, scheme=DEFAULT_SCHEME, keys=few))
    yield Line(what, ours, f"lists of real keys, `real_key_null` (measured on {few})", 50 * real)
    raw = best(lambda: each(np.random.Philox(key=k).random_raw(vocab_size) for k in range(few)))
    yield Line(what, ours, f"Philox words of as many keys alone (measured on {few})", 50 * raw)
    yield Line(f"{few} lists of {DEFAULT_SCHEME}, V = {vocab_size:,}", lists, "their Philox words alone", raw)


def exact(vocab_size: int) -> Iterator[Line]:
    """The exact p beside scipy, one call at a time and all at once."""
    say(f"exact p, V = {vocab_size}")
    generator = np.random.default_rng(1)
    types = generator.integers(60, 200, size=1000)
    greens = generator.binomial(types, 0.55)
    size = vocab_size // 2

    def ours() -> None:
        for g, u in zip(greens.tolist(), types.tolist(), strict=True):
            exact_pvalue(greens=g, types=u, vocab_size=vocab_size, green_size=size)

    def cold() -> None:
        hypergeometric.cache_clear()
        ours()

    def scipy_loop() -> None:
        for g, u in zip(greens.tolist(), types.tolist(), strict=True):
            stats.hypergeom.sf(g - 1, vocab_size, size, u)

    peer = best(scipy_loop)
    what = f"exact p, 1,000 calls, V = {vocab_size:,}"
    yield Line(f"{what}, nothing cached before", best(cold), "`scipy.stats.hypergeom.sf` in a loop", peer)
    warm = best(ours, runs=5)
    yield Line(f"{what}, numbers of types seen before", warm, "the same", peer)
    at_once = best(lambda: stats.hypergeom.sf(greens - 1, vocab_size, size, types))
    yield Line(f"{what}, numbers of types seen before", warm, "one scipy call on the arrays", at_once)


def contexts(vocab_size: int) -> Iterator[Line]:
    """Context scoring beside the detector of transformers, which makes a permutation an n-gram."""
    import torch
    from transformers import LlamaConfig, WatermarkDetector, WatermarkingConfig

    ids = np.random.default_rng(2).integers(1, vocab_size, size=TOKENS)
    table = best(hash_table, runs=1)
    for scheme, theirs, width in (("kgw-simple-1", "lefthash", 1), ("kgw-anchored-minhash", "selfhash", 4)):
        say(f"contexts, {scheme}, V = {vocab_size}")
        config = WatermarkingConfig(seeding_scheme=theirs, context_width=width)

        def detect(config: Any = config) -> None:
            model = LlamaConfig(vocab_size=vocab_size, bos_token_id=0)
            # made anew, as it remembers the n-grams it has seen
            WatermarkDetector(model, "cpu", config)(torch.tensor(ids)[None])

        def ours(scheme: str = scheme) -> None:
            score_context_ids(ids, key=HASH_KEY, vocab_size=vocab_size, scheme=scheme, gamma=0.25)

        what = f"one text of {TOKENS} tokens, {scheme}, V = {vocab_size:,}"
        yield Line(what, best(ours), "`WatermarkDetector` of transformers, made and run", best(detect))
    say(f"the hash table of the minhash schemes took {table:.2f} s, once")


def imports() -> Iterator[Line]:
    """Processor time of imports in fresh interpreters."""

    def cpu(module: str) -> float:
        code = (
            f"import time; start = time.process_time(); import {module}; print(time.process_time() - start)"
        )
        command = [sys.executable, "-c", code]
        return min(float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(7))

    say("imports")
    numpy = cpu("numpy")
    for module in ("sif_offline.fingerprint", "sif_offline.fingerprint.scoring"):
        yield Line(f"`import {module}`, processor time", cpu(module), "`import numpy`", numpy)


def measure() -> list[Line]:
    """Every line of the table."""
    say("reading docstrings")
    lines = [*responses(corpus(texts=RESPONSES, tokens=TOKENS))]
    for vocab_size in (4096, 152064):
        lines += [*random_keys(vocab_size), *exact(vocab_size)]
    return [*lines, *contexts(32000), *contexts(152064), *imports()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    as_json = parser.parse_args().json
    lines = measure()
    if as_json:
        rows = [{**line._asdict(), "ratio": line.ratio} for line in lines]
        sys.stdout.write(json.dumps({"lines": rows}, indent=1) + "\n")
        return
    rows = [[w, f"{s:.3g} s", p, f"{t:.3g} s", f"{s / t:.3g}"] for w, s, p, t in lines]
    sys.stdout.write(markdown(["what", "time", "beside", "its time", "ratio"], rows) + "\n")


if __name__ == "__main__":
    main()
