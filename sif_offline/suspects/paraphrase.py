"""Rewording an answer by rule: another word for a word, clauses and sentences in another order.

A thief would use a language model; a table is the cheap form of the same, and says exactly what it did. How
far it goes on the lab model's answers is measured in ``docs/suspects.md``.
"""

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import yaml

_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
# "A dog runs on the grass." -> "On the grass, a dog runs."
_PLACE = re.compile(
    r"^(?P<what>(?:a|an|the|two|three|four|several|some|many|people|men|women|children|there)\b.{8,}?) "
    r"(?P<place>(?:in|on|at|near|along|across|beside|behind|outside) (?:the|a|an|some) [a-z' -]{3,60})"
    r"(?P<end>[.!?])$",
    re.IGNORECASE,
)
# What is looked at is no place.
_AIMED = re.compile(r"\b(?:look|gaz|star|smil|point|bark|wav|laugh)(?:e|s|es|ing)?$", re.IGNORECASE)


@cache
def _table() -> Mapping[str, Sequence[str]]:
    """Every word or phrase that is replaced, lower case, to what may stand for it."""
    loaded = yaml.safe_load(files("sif_offline.suspects").joinpath("paraphrase.yaml").read_text())
    table: dict[str, list[str]] = {word: row.split(", ") for word, row in loaded["one_way"].items()}
    for row in loaded["either_way"]:
        words = row.split(", ")
        for word in words:
            table.setdefault(word, []).extend(other for other in words if other != word)
    return table


@cache
def _words() -> re.Pattern[str]:
    longest_first = sorted(_table(), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)


def paraphrase(text: str, *, share: float, seed: int) -> str:
    """``text`` in other words.

    Args:
        text: English sentences; a last one that breaks off stays last.
        share: probability with which each word of the table is replaced, each place is moved to the front of
            its sentence, and sentences are shuffled; 0 changes nothing, 1 all that can be.
        seed: of the choices.
    """
    if not share or not text.strip():
        return text
    rng = random.Random(seed)

    def other(match: re.Match[str]) -> str:
        word = match.group()
        if rng.random() >= share:
            return word
        chosen = rng.choice(_table()[word.lower()])
        return chosen[:1].upper() + chosen[1:] if word[:1].isupper() else chosen

    sentences = [part.strip() for part in _SENTENCE.findall(text) if part.strip()]
    broken = [sentences.pop()] if sentences and sentences[-1][-1] not in ".!?" else []
    sentences = [_fronted(one) if rng.random() < share else one for one in sentences]
    if rng.random() < share:
        rng.shuffle(sentences)
    return _articles(_words().sub(other, " ".join(sentences + broken)))


def _fronted(sentence: str) -> str:
    match = _PLACE.match(sentence)
    if match is None or _AIMED.search(match["what"]):
        return sentence
    what, place, end = match["what"], match["place"], match["end"]
    return f"{place[:1].upper()}{place[1:]}, {what[:1].lower()}{what[1:]}{end}"


def _articles(text: str) -> str:
    """``a`` before a consonant's letter and ``an`` before a vowel's."""

    def right(match: re.Match[str]) -> str:
        article, first = match.group(1), match.group(2)
        return f"{article[0]}{'n' if first.lower() in 'aeio' else ''} {first}"

    return re.sub(r"\b(an?) (\w)", right, text, flags=re.IGNORECASE)
