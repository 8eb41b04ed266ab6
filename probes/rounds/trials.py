"""What a round does that depends on the kind of fingerprint: what it asks, and what the answers amount to."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from probes.store import Store
from probes.store.reading import RoundCounts
from probes.targets import Answer, AnswerKind


@dataclass(frozen=True)
class Put:
    """One question, ready to be put to a target.

    Attributes:
        trigger_id: the trigger or query.
        control: whether it is the clean photo of a trigger.
        digest: hex sha256 of what is sent in the place of a picture.
        prompt: the words beside it, "" for none.
        max_tokens: the longest answer asked for, 0 where answers are no text.
        request: canonical JSON of the whole question, for the chain.
        send: puts it, once. Raises AskFailure.
        kind_of: what an answer to it is.
    """

    trigger_id: str
    control: bool
    digest: str
    prompt: str
    max_tokens: int
    request: str
    send: Callable[[], Answer]
    kind_of: Callable[[Answer], AnswerKind]


class Plan(NamedTuple):
    """What to ask, in this order, each made ready when its turn comes; ``oversize``: triggers that the target
    does not take for their size.
    """

    questions: list[Callable[[], Put]]
    oversize: int = 0


class Trials(Protocol):
    """The trials of one fingerprint on one target."""

    @property
    def target(self) -> str:
        """The target's configured name."""
        ...

    @property
    def pack_id(self) -> str:
        """Of the pack asked with."""
        ...

    def prepare(self) -> None:
        """Load what takes seconds, before a round commits to its first question."""
        ...

    def plan(self, store: Store, *, now: float, rng: random.Random) -> Plan:
        """What is due (``now``: Unix seconds), in random order. Raises StoreError."""
        ...

    def score(self, store: Store) -> int:
        """Score every stored answer that waits for it, in order of arrival; returns how many."""
        ...

    def conclude(self, store: Store, round_id: int, counts: RoundCounts) -> dict[str, Any]:
        """The statistics of a round whose answers are scored: columns of RoundRow, with the target's
        ``verdict`` and how many answers are ``scored``.
        """
        ...
