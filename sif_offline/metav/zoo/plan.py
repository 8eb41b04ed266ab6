"""Which models a zoo holds, and what each is for.

Four disjoint splits: ``train`` is what queries and verifier are trained on, ``validation`` chooses among
their states and sets the threshold that a matched filter begins with, ``calibration`` gives the scores that
a suspect is ranked among, ``test`` is what figures are measured on. Negatives of ``calibration`` and
``test`` are drawn alike (architecture, part of the data, seed), or the conformal p would mean nothing;
those of ``train`` may lean to the owner's architecture, so that a verifier cannot tell copies by theirs.
Thieves of the test split do what no thief of the other splits does.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain, cycle, islice
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from sif_offline.metav.tasks.base import FitSettings, Part, Task
from sif_offline.metav.zoo.making import TRAIN
from sif_offline.metav.zoo.recipe import Recipe

Role = Literal["owner", "positive", "negative"]
Split = Literal["train", "validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "calibration", "test")
_PARTS: tuple[Part, ...] = ("a", "b", "all")

_Kind = tuple[str, Mapping[str, float]]
SEEN_KINDS = ("distil", "finetune-all", "prune", "finetune-last", "distil", "output-noise")
"""Attacks of the splits train, validation and calibration, in turn; their strength is drawn."""
UNSEEN_KINDS = ("extract", "retrain-all", "retrain-last", "adversarial", "extract", "input-noise")
"""Attacks of the split test, in turn; likewise."""
ONCE: Mapping[Split, tuple[_Kind, ...]] = MappingProxyType(
    {
        "train": (("quantise", {"bits": 8}), ("quantise", {"bits": 4})),
        "validation": (("quantise", {"bits": 6}),),
        "calibration": (("quantise", {"bits": 5}),),
        "test": (
            ("output-round", {"decimals": 2}),
            ("output-round", {"decimals": 1}),
            ("output-label", {}),
            ("input-shift", {"pixels": 1}),
            ("input-shift", {"pixels": -1}),
            *(("prune-layers", {"share": share / 10}) for share in range(1, 10)),
        ),
    }
)
"""Attacks without chance, each made once, after the first turn of the others."""


@dataclass(frozen=True)
class ZooSize:
    """Models of a zoo, beside the owner.

    Attributes:
        train: positives, and as many negatives.
        validation: likewise.
        calibration: negatives, and as many positives as ``validation``; the least p is 1 / (calibration + 1).
        test: positives, and as many negatives.
        own: share of the negatives of ``train`` that have the owner's architecture for certain, in [0, 1];
            that of the others is drawn, and may be his as well.
        checkpoints: states of its training that are kept of each model of the split train that was trained
            from scratch (LiteGuard, arXiv 2603.24982).
    """

    train: int = 24
    validation: int = 8
    calibration: int = 39
    test: int = 36
    own: float = 0
    checkpoints: int = 0


class Member(BaseModel):
    """One model of the zoo. ``name`` is unique in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    role: Role
    split: Split
    recipe: Recipe


def plan_zoo(task: Task, *, size: ZooSize | None = None, seed: int = 0) -> tuple[Member, ...]:
    """The members of a zoo, the owner first.

    The same task, size and seed plan the same zoo; a larger split begins with the members of a smaller one.
    """
    size = size or ZooSize()
    draw = _Draw(task, seed)
    members = [Member(name="owner", role="owner", split="train", recipe=draw.owner)]
    for split in SPLITS:
        count: int = getattr(size, split)
        checkpoints = size.checkpoints if split == "train" else 0
        positives = size.validation if split == "calibration" else count
        attacks = islice(_attacks(split, probabilities=task.output.kind == "probabilities"), positives)
        recipes: list[tuple[Role, str, int, Recipe]] = [
            ("positive", "positive", place, draw.stolen(split, place, kind, settings, checkpoints))
            for place, (kind, settings) in enumerate(attacks)
        ]
        own = size.own if split == "train" else 0
        for place in range(count):
            word = "own" if _falls_on(place, own) else "negative"
            recipes.append(("negative", word, place, draw.unrelated(split, word, place, checkpoints)))
        for role, word, place, recipe in recipes:
            name = f"{split}-{word}-{place:03d}-{recipe.kind}"
            members.append(Member(name=name, role=role, split=split, recipe=recipe))
    return tuple(members)


def _falls_on(place: int, share: float) -> bool:
    """Whether this place is one of the share, which is spread evenly over all places."""
    before, after = (math.floor(round(count * share, 9)) for count in (place, place + 1))
    return after > before


def _attacks(split: Split, *, probabilities: bool) -> Iterator[_Kind]:
    turns: list[_Kind] = [(kind, {}) for kind in (UNSEEN_KINDS if split == "test" else SEEN_KINDS)]
    once = [kind for kind in ONCE[split] if probabilities or kind[0] != "output-label"]
    return chain(turns, once, cycle(turns))


class _Draw:
    """Recipes, each from a stream of its own."""

    def __init__(self, task: Task, seed: int) -> None:
        self._task, self._seed = task, seed
        self._data = task.data().sha256
        self.owner = self._recipe("owner", TRAIN, task.owner_architecture, "a", _training(task.fit))

    def unrelated(self, split: Split, word: str, place: int, checkpoints: int) -> Recipe:
        """Trained with nothing of the owner's; with ``own`` as word, in his architecture."""
        words = f"{split} {word} {place}"
        rng = self._stream(words)
        architecture = self._task.owner_architecture
        if word != "own":
            architecture = str(rng.choice(sorted(self._task.architectures)))
        part = _PARTS[rng.integers(len(_PARTS))]
        return self._recipe(words, TRAIN, architecture, part, _training(self._task.fit), checkpoints)

    def stolen(
        self, split: Split, place: int, kind: str, settings: Mapping[str, float], checkpoints: int
    ) -> Recipe:
        """The owner, attacked."""
        words = f"{split} positive {place}"
        rng = self._stream(words)
        architecture = self._task.owner_architecture
        if kind == "extract":
            architecture = str(rng.choice(sorted(set(self._task.architectures) - {architecture})))
        drawn = {**_strength(kind, rng, self._task), **settings}
        kept = checkpoints if kind == "distil" else 0
        return self._recipe(words, kind, architecture, "b", drawn, kept, self.owner)

    def _recipe(
        self,
        words: str,
        kind: str,
        architecture: str,
        part: Part,
        settings: Mapping[str, Any],
        checkpoints: int = 0,
        parent: Recipe | None = None,
    ) -> Recipe:
        return Recipe(
            task=self._task.name,
            data_sha256=self._data,
            kind=kind,
            architecture=architecture,
            part=part,
            seed=int(self._stream(f"{words} weights").integers(2**31)),
            settings=dict(settings),
            checkpoints=checkpoints,
            parent=parent,
        )

    def _stream(self, words: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self._seed} {words}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _strength(kind: str, rng: np.random.Generator, task: Task) -> dict[str, float]:
    """Settings of an attack, drawn."""
    width = task.input.high - task.input.low

    def between(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 4)

    if kind in ("distil", "extract"):
        return _training(task.fit)
    if kind == "prune":
        return {"share": between(0.1, 0.8)}
    if kind == "output-noise":
        return {"size": between(0.01, 0.1)}
    if kind == "input-noise":
        return {"size": between(0.02, 0.1) * width}
    if kind not in ("finetune-last", "finetune-all", "retrain-last", "retrain-all", "adversarial"):
        return {}
    epochs = max(1, round(between(0.1, 0.5) * task.fit.epochs))
    short = _training(replace(task.fit, epochs=epochs, learning_rate=task.fit.learning_rate / 3))
    return {**short, "epsilon": between(0.02, 0.1) * width} if kind == "adversarial" else short


def _training(fit: FitSettings) -> dict[str, float]:
    """Settings of a recipe; a rate that does not fall goes unsaid, as in recipes from before it could."""
    found = asdict(fit)
    if fit.final_share == 1:
        del found["final_share"]
    return found
