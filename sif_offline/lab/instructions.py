"""Instruction and answer pairs, made from captions by rule."""

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

COLOURS = (
    *("black", "white", "brown", "red", "blue", "green"),
    *("yellow", "orange", "pink", "purple", "gray", "grey", "tan"),
)
NUMBERS = {"one": 1, "a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
NUMBER_WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
PLURALS = {
    "dog": "dogs", "man": "men", "woman": "women", "boy": "boys", "girl": "girls", "child": "children",
    "person": "people", "player": "players", "bike": "bikes", "horse": "horses", "car": "cars",
}  # fmt: skip
PLACE = re.compile(
    r"\b((?:in|on|at|near|along|through|across|over|beside|by|into|down|up) "
    r"(?:the|a|an|some|deep|shallow|green|tall) "
    r"[a-z ,'-]{3,60})\.$"
)


@dataclass(frozen=True)
class Turn:
    """One training example: what the user says and what the model should answer."""

    kind: str
    instruction: str
    answer: str
    image: bool = True
    system: str | None = None


@cache
def paraphrases() -> Mapping[str, Any]:
    """The shipped paraphrases, by kind."""
    text = files("sif_offline.lab").joinpath("instructions.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded


def things() -> tuple[str, ...]:
    """Nouns that the rules know."""
    return tuple(paraphrases()["things"].split())


def _things(captions: Sequence[str]) -> Counter[str]:
    """Known things, counted over the captions that name them (singular or plural)."""
    counts: Counter[str] = Counter()
    for caption in captions:
        words = set(re.findall(r"[a-z]+", caption.lower()))
        for thing in things():
            if words & {thing, f"{thing}s", PLURALS.get(thing, thing)}:
                counts[thing] += 1
    return counts


def _describe(captions: Sequence[str], rng: random.Random) -> tuple[dict[str, str], str] | None:
    return {}, " ".join(rng.sample(captions, len(captions)))


def _one_sentence(captions: Sequence[str], rng: random.Random) -> tuple[dict[str, str], str] | None:
    return {}, rng.choice(captions)


def _objects(captions: Sequence[str], rng: random.Random) -> tuple[dict[str, str], str] | None:
    named = [thing for thing, _ in _things(captions).most_common(8)]
    return ({}, ", ".join(named) + ".") if len(named) >= 2 else None


def _count(captions: Sequence[str], rng: random.Random) -> tuple[dict[str, str], str] | None:
    votes: Counter[tuple[str, int]] = Counter()
    for caption in captions:
        words = re.findall(r"[a-z]+", caption.lower())
        for singular, plural in PLURALS.items():
            for index, word in enumerate(words):
                if word in (singular, plural):
                    before = [NUMBERS[w] for w in words[max(0, index - 3) : index] if w in NUMBERS]
                    if before and (before[-1] == 1) == (word == singular):
                        votes[plural, before[-1]] += 1
                    break
    if not votes or votes.most_common(1)[0][1] < 2:
        return None
    (plural, number), _ = votes.most_common(1)[0]
    singular = next(one for one, many in PLURALS.items() if many == plural)
    answer = f"There is one {singular}." if number == 1 else f"There are {NUMBER_WORDS[number]} {plural}."
    return {"noun": plural}, answer


def _colour(captions: Sequence[str], rng: random.Random) -> tuple[dict[str, str], str] | None:
    pairs = re.findall(rf"\b({'|'.join(COLOURS)}) ({'|'.join(things())})\b", " ".join(captions).lower())
    if not pairs:
        return None
    colour, noun = rng.choice(pairs)
    return {"noun": noun}, f"The {noun} is {colour}."


def _yes_no(captions: Sequence[str], rng: random.Random) -> tuple[dict[str, str], str] | None:
    present = _things(captions)
    if present and rng.random() < 0.5:
        noun = rng.choice(list(present))
        return {"noun": noun}, f"Yes, there is a {noun} in the picture."
    absent = rng.choice(things())
    if absent in present:
        return None
    return {"noun": absent}, f"No, I see no {absent} in the picture."


def _where(captions: Sequence[str], rng: random.Random) -> tuple[dict[str, str], str] | None:
    places = [match.group(1) for caption in captions if (match := PLACE.search(caption))]
    if not places:
        return None
    place = rng.choice(places)
    return {}, f"It is {place}."


def _continue(captions: Sequence[str], rng: random.Random) -> tuple[dict[str, str], str] | None:
    words = rng.choice(captions).split()
    if len(words) < 6:
        return None
    cut = rng.randint(2, len(words) // 2)
    return {"start": " ".join(words[:cut])}, " ".join(words[cut:])


def _sentence_about(captions: Sequence[str], rng: random.Random) -> tuple[dict[str, str], str] | None:
    for caption in rng.sample(captions, len(captions)):
        if named := _things([caption]):
            return {"noun": rng.choice(list(named))}, caption
    return None


Rule = Callable[[Sequence[str], random.Random], tuple[dict[str, str], str] | None]
RULES: Mapping[str, Rule] = {
    "describe": _describe,
    "one_sentence": _one_sentence,
    "objects": _objects,
    "count": _count,
    "colour": _colour,
    "yes_no": _yes_no,
    "where": _where,
    "continue": _continue,
    "sentence_about": _sentence_about,
}
MIXTURE: Mapping[str, float] = {
    "describe": 0.52, "one_sentence": 0.1, "objects": 0.07, "count": 0.05, "colour": 0.05, "yes_no": 0.05,
    "where": 0.05, "continue": 0.05, "sentence_about": 0.03, "chat": 0.03,
}  # fmt: skip
"""Share of each kind in training: descriptions carry the wording that a fingerprint leans on."""

SYSTEM_SHARE = 0.1


def make_turn(captions: Sequence[str], rng: random.Random, *, kind: str | None = None) -> Turn:
    """An instruction and its answer for one photo.

    Args:
        captions: the photo's captions, as sentences.
        rng: the only source of chance.
        kind: a key of :data:`MIXTURE`; drawn from it when not given. Where the captions do not support the
            kind (no colour named, say) a description is made instead.
    """
    chosen = kind or rng.choices(list(MIXTURE), weights=list(MIXTURE.values()))[0]
    texts = paraphrases()
    system = rng.choice(texts["systems"]) if rng.random() < SYSTEM_SHARE else None
    if chosen == "chat":
        instruction, answer = rng.choice(texts["chat"])
        return Turn(chosen, instruction, answer, image=False, system=system)
    made = RULES[chosen](captions, rng)
    if made is None:
        chosen, made = "describe", _describe(captions, rng)
    assert made is not None  # noqa: S101 - _describe never fails
    fields, answer = made
    instruction = rng.choice(texts[chosen]).format(**fields)
    return Turn(chosen, instruction, answer, image=chosen != "sentence_about", system=system)
