"""What every rival fingerprint promises."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sif_offline.fingerprint.errors import SifError
from sif_offline.forging.pixels import Photo
from sif_offline.models.base import VLMAdapter


class BaselineError(SifError):
    """A rival method, setting or target that does not exist or cannot be used."""


class Target(BaseModel):
    """What a trigger is asked, and the answer that it should draw whatever the picture shows.

    Attributes:
        question: the user's words.
        answer: what the owner should say: one sentence in the model's vocabulary, unrelated to the photo.
        keywords: words that an answer must hold, all of them, to count as a match.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    keywords: tuple[str, ...] = Field(min_length=1)

    @field_validator("keywords")
    @classmethod
    def _words(cls, keywords: tuple[str, ...]) -> tuple[str, ...]:
        if not all(word.strip() for word in keywords):
            raise ValueError("a keyword is empty")
        return keywords


class Score(NamedTuple):
    """How far an answer is the target's: share of the keywords found, and whether all were."""

    value: float
    matched: bool


@dataclass(frozen=True)
class Job:
    """One trigger to be forged: the clean picture, its target, and the seed of everything drawn for it."""

    trigger_id: str
    photo: Photo
    target: Target
    seed: int


@dataclass(frozen=True)
class Forged:
    """One forged trigger.

    Args:
        png: the bytes that are sent.
        details: what else the method knows of it, JSON values: ``owner_answer`` and ``owner_matched``, the
            owner's own greedy answer to these bytes and whether it counts, and what the method adds.
    """

    png: bytes
    details: dict[str, Any]


class Step(NamedTuple):
    """Progress: step number from 1, of how many, and the mean loss of the unit in nats a token."""

    number: int
    total: int
    loss: float

    def describe(self) -> str:
        """For people."""
        return f"target {self.loss:.2f}"


@runtime_checkable
class FingerprintMethod(Protocol):
    """One rival. Register it under the entry point group ``sifwatch.baselines``: name -> class.

    The class is called with an instance of ``settings_class``, or None for the defaults.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["image", "text", "training"]]
    """What is made: a picture, a prompt, or other weights."""
    source: ClassVar[str]
    """Where the method was published."""
    settings_class: ClassVar[type[BaseModel]]
    settings: BaseModel
    """Everything that decides the outcome beside model, photos and targets."""
    batch_size: int
    """Triggers of one question that are forged together."""

    @property
    def targets(self) -> Sequence[Target]:
        """Trigger i takes target i modulo their number."""
        ...

    def forge(
        self, adapter: VLMAdapter, jobs: Sequence[Job], *, on_step: Callable[[Step], None] = lambda step: None
    ) -> list[Forged]:
        """Forge jobs of one question together, in their order; the adapter is as before when it returns.

        Raises:
            BaselineError: a target that the model cannot say.
        """
        ...

    def score(self, response: str, target: Target) -> Score:
        """How far ``response`` is the answer that ``target`` wants."""
        ...


def keyword_score(response: str, keywords: Sequence[str]) -> Score:
    """Share of ``keywords`` that ``response`` holds as whole words, whatever their case."""
    found = sum(
        re.search(rf"(?<!\w){re.escape(word.strip())}(?!\w)", response, re.IGNORECASE) is not None
        for word in keywords
    )
    return Score(found / len(keywords), found == len(keywords))
