"""False positives on unwatermarked English: the rivals' z-scores and the exact p side by side.

    python -m benchmarks.fingerprint.false_positives            # two Markdown tables, about ten minutes
    python -m benchmarks.fingerprint.false_positives --texts 200 --json

Every text is scored under a fresh random key of its own, and under one key for all (15485863, which the
rivals ship). The exactness of a p is over the key: with one key the texts share the colours of their common
words, so a second table gives the spread over 20 fixed keys.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.fingerprint.detectors import (
    all_ngrams_pvalue,
    colours,
    ngrams,
    unigram_pvalue,
    unique_ngrams_pvalue,
)
from benchmarks.fingerprint.tables import markdown, say
from benchmarks.fingerprint.texts import Corpus, corpus
from sif_offline.fingerprint.context_scoring import score_context_ids
from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.kgw import HASH_KEY
from sif_offline.fingerprint.random_keys import random_key_null
from sif_offline.fingerprint.scoring import score_ids

LEVEL = 1e-3
GAMMA_KGW, GAMMA_UNIGRAM = 0.25, 0.5
"""Each side's own default."""
NULL_KEYS = 9_999

Row = tuple[str, str, float, list[float]]
"""Lists, detector, gamma, p of each text."""


def kgw_rows(data: Corpus, keys: list[int], scheme: str, *, fixed: bool) -> Iterator[Row]:
    """The rivals' two rows and ours, under the lists of one KGW scheme."""
    say(f"{scheme}, {'one fixed key' if fixed else 'fresh keys'}")
    grams = [ngrams(ids, scheme) for ids in data.texts]
    options = {"vocab_size": data.vocab_size, "gamma": GAMMA_KGW, "scheme": scheme}
    if fixed:  # the same colours by the same function, every list made once for all texts
        everywhere = colours(set().union(*grams), key=keys[0], **options)
        green = [everywhere] * len(grams)
    else:
        green = [colours(counted, key=key, **options) for key, counted in zip(keys, grams, strict=True)]
    pairs = list(zip(grams, green, strict=True))
    if scheme != "kgw-minhash":  # which transformers does not have
        every = [all_ngrams_pvalue(counted, green, GAMMA_KGW) for counted, green in pairs]
        yield scheme, "transformers: z of all n-grams", GAMMA_KGW, every
    unique = [unique_ngrams_pvalue(counted, green, GAMMA_KGW) for counted, green in pairs]
    yield scheme, "lm-watermarking: z of unique n-grams", GAMMA_KGW, unique
    ours = [
        score_context_ids(ids, key=key, **options).pvalue for key, ids in zip(keys, data.texts, strict=True)
    ]
    yield scheme, "ours: exact p of (seed, token) pairs", GAMMA_KGW, ours


def unigram_rows(data: Corpus, keys: list[int], *, fixed: bool, random_keys: bool = True) -> Iterator[Row]:
    """Zhao's row and ours, under his lists and under our own."""

    def per_text(scheme: str, pvalue: Callable[[list[int], np.ndarray], float]) -> list[float]:
        masks = (
            green_mask(key=key, vocab_size=data.vocab_size, gamma=GAMMA_UNIGRAM, scheme=scheme)
            for key in (keys[:1] if fixed else keys)
        )
        every = [next(masks)] * len(keys) if fixed else masks
        return [pvalue(ids, mask) for ids, mask in zip(data.texts, every, strict=True)]

    def zhao(ids: list[int], mask: np.ndarray) -> float:
        return unigram_pvalue(ids, mask, GAMMA_UNIGRAM)

    def exact(ids: list[int], mask: np.ndarray) -> float:
        return score_ids(ids, mask=mask).pvalue

    def counted(ids: list[int], mask: np.ndarray) -> float:
        numbers = np.array([number for _, number in sorted(Counter(ids).items())])
        return random_key_null(
            ids, mask=mask, keys=NULL_KEYS, statistic=lambda seen: seen @ numbers, seed=sum(ids)
        ).pvalue

    yield "unigram-zhao", "Zhao et al.: z of all tokens", GAMMA_UNIGRAM, per_text("unigram-zhao", zhao)
    yield "unigram-zhao", "ours: exact p of distinct types", GAMMA_UNIGRAM, per_text("unigram-zhao", exact)
    own = "unigram-philox-v1"
    yield own, "ours: exact p of distinct types", GAMMA_UNIGRAM, per_text(own, exact)
    if random_keys:
        say(f"random-key null over {NULL_KEYS} keys a text")
        yield own, "ours: random-key p of all tokens", GAMMA_UNIGRAM, per_text(own, counted)


def rate(pvalues: list[float]) -> dict[str, float]:
    """Share of p <= LEVEL with its exact 95 % interval (Clopper and Pearson 1934)."""
    hits = int(np.count_nonzero(np.array(pvalues) <= LEVEL))
    interval = stats.binomtest(hits, len(pvalues)).proportion_ci(0.95, method="exact")
    return {"hits": hits, "rate": hits / len(pvalues), "low": interval.low, "high": interval.high}


def measure(data: Corpus, *, seed: int) -> dict[str, Any]:
    """Both tables as numbers."""
    generator = np.random.default_rng(seed)
    fresh = generator.integers(-(2**63), 2**63 - 1, size=len(data.texts)).tolist()
    rows: dict[tuple[str, str, float], dict[str, Any]] = {}
    for name, keys in (("fresh keys", fresh), ("one fixed key", [HASH_KEY] * len(data.texts))):
        fixed = name != "fresh keys"
        for scheme in ("kgw-simple-1", "kgw-minhash", "kgw-anchored-minhash"):
            for *what, pvalues in kgw_rows(data, keys, scheme, fixed=fixed):
                rows.setdefault(tuple(what), {})[name] = rate(pvalues)
        for *what, pvalues in unigram_rows(data, keys, fixed=fixed):
            rows.setdefault(tuple(what), {})[name] = rate(pvalues)
    spread: dict[str, list[float]] = {}
    for number in range(20):
        say(f"fixed key {number + 1} of 20")
        keys = [int(generator.integers(-(2**63), 2**63 - 1))] * len(data.texts)
        for scheme, detector, _, pvalues in unigram_rows(data, keys, fixed=True, random_keys=False):
            spread.setdefault(f"{detector}, {scheme}", []).append(rate(pvalues)["rate"])
    return {
        "level": LEVEL,
        "source": data.source,
        "vocab_size": data.vocab_size,
        "texts": len(data.texts),
        "tokens": len(data.texts[0]),
        "median_types": float(np.median([len(set(ids)) for ids in data.texts])),
        "rows": [
            {"lists": lists, "detector": detector, "gamma": gamma, **rates}
            for (lists, detector, gamma), rates in rows.items()
        ],
        "fixed_keys": spread,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=200, help="tokens a text")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of texts and of the keys")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    start = time.perf_counter()
    say("reading docstrings")
    data = corpus(texts=options.texts, tokens=options.tokens, seed=options.seed)
    result = measure(data, seed=options.seed)
    say(f"{time.perf_counter() - start:.0f} s")
    sys.stdout.write((json.dumps(result, indent=1) if options.json else report(result)) + "\n")


def report(result: dict[str, Any]) -> str:
    """The two tables and where their texts are from."""

    def cell(found: dict[str, float]) -> str:
        return f"{found['rate']:.2%} ({found['low']:.2%} to {found['high']:.2%})"

    rates = markdown(
        ["detector", "lists", "gamma", "a fresh key per text", "one fixed key"],
        [
            [
                row["detector"],
                row["lists"],
                f"{row['gamma']:g}",
                cell(row["fresh keys"]),
                cell(row["one fixed key"]),
            ]
            for row in result["rows"]
        ],
    )
    spread = markdown(
        ["detector, lists", "least", "median", "largest", "mean"],
        [
            [name, *(f"{value:.2%}" for value in (min(r), np.median(r), max(r), np.mean(r)))]
            for name, r in result["fixed_keys"].items()
        ],
    )
    return (
        f"False positives at p <= {result['level']:g}, {result['texts']} texts of {result['tokens']} tokens "
        f"({result['median_types']:.0f} distinct in the median), V = {result['vocab_size']:,}; "
        "95 % intervals.\n\n"
        f"{rates}\n\nThe same rate over 20 keys, each fixed for all texts:\n\n{spread}\n\n"
        f"Texts: {result['source']}."
    )


if __name__ == "__main__":
    main()
