"""Everyday questions and requests in English, filled from WordNet: no documentation speaks as users do."""

import gzip
import random
import re
from collections.abc import Iterator, Set
from pathlib import Path

FORMS = Path(__file__).with_name("questions.txt").read_text(encoding="utf-8").splitlines()


def lemmas(dictionary: Path, common: Set[str]) -> dict[str, list[str]]:
    """Words of WordNet that are common by their part of speech there (n, v, adj: a)."""
    text = gzip.decompress(dictionary.read_bytes()).decode("utf-8", "ignore")
    found: dict[str, list[str]] = {"n": [], "v": [], "a": []}
    for head, kind, senses in re.findall(r"^([a-z]{3,10})\n\s+(n|v|adj) ?(1?)", text, re.MULTILINE):
        if senses and head in common:
            found[kind[0]].append(head)
    return found


def questions(dictionary: Path, common: Set[str], *, count: int) -> Iterator[str]:
    words, rng = lemmas(dictionary, common), random.Random(0)
    for _ in range(count):
        n, m = rng.choice(words["n"]), rng.choice(words["n"])
        yield rng.choice(FORMS).format(n=n, m=m, v=rng.choice(words["v"]), a=rng.choice(words["a"]))
