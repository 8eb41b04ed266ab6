"""Endpoints under watch, simulated down to their token types: words by Zipf's law, real green lists.

Every target has its own master secret, so that its keys, and with them its green lists, are nobody else's.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from typing import Literal

import numpy as np

from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.keys import derive_trigger_key
from sif_offline.fingerprint.master import MasterSecret

Behaviour = Literal["greedy", "sampled", "rotating"]
"""greedy: the same answer whenever a trigger comes back, so that all evidence is in the first round.
sampled: every answer is drawn anew from the target's words for that trigger, so that new types grow rare but
never quite end. rotating: greedy, but each round one trigger is retired for a fresh one.
"""

NewTypes = list[tuple[int, bool]]


@dataclass(frozen=True)
class Watched:
    """How a target is watched and how it speaks.

    ``rate``: the chance that a type which is new for its trigger is green, whatever came before; None for
    text that does not depend on the key (then the urn of its green list decides: gamma, without replacement).
    ``tokens``: words drawn for one answer; 40 by Zipf's law over 4,096 are 32 distinct types, as many as an
    answer of the lab owner has.
    """

    behaviour: Behaviour
    rate: float | None
    rounds: int = 300
    triggers: int = 16
    tokens: int = 40
    vocab_size: int = 4096

    def answers(self, rng: np.random.Generator) -> Iterator[tuple[str, NewTypes]]:
        """``rounds`` times ``triggers`` answers as (trigger id, types that are new for the trigger)."""
        secret = MasterSecret(rng.bytes(32))
        asked = [self._trigger(secret, str(number)) for number in range(self.triggers)]
        for number in range(self.rounds):
            if number and self.behaviour == "rotating":
                asked = [*asked[1:], self._trigger(secret, str(self.triggers + number - 1))]
            for trigger in asked:
                if trigger.seen and self.behaviour != "sampled":
                    yield trigger.id, []  # it says what it said
                else:
                    yield trigger.id, trigger.answer(rng, tokens=self.tokens, rate=self.rate)

    def _trigger(self, secret: MasterSecret, trigger_id: str) -> "_Trigger":
        key = derive_trigger_key(secret, owner="soak", model_hash="", trigger_id=trigger_id)
        return _Trigger(trigger_id, green_mask(key=key, vocab_size=self.vocab_size).tolist())


class _Words:
    """Some of the vocabulary, by Zipf's law over the whole of it: id n has the weight 1/(n + 1)."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids
        self._upto = list(accumulate(1 / (number + 1) for number in ids))

    def word(self, uniform: float) -> int:
        return self._ids[min(bisect_left(self._upto, uniform * self._upto[-1]), len(self._ids) - 1)]


@cache
def _whole_vocabulary(size: int) -> _Words:
    return _Words(list(range(size)))


class _Trigger:
    """One trigger at one target: its green list and what the target has said to it."""

    def __init__(self, trigger_id: str, green: list[bool]) -> None:
        self.id = trigger_id
        self.seen: set[int] = set()
        self._green = green
        self._all = _whole_vocabulary(len(green))

    @cached_property
    def _by_colour(self) -> dict[bool, _Words]:
        return {
            colour: _Words([number for number, is_green in enumerate(self._green) if is_green == colour])
            for colour in (False, True)
        }

    def answer(self, rng: np.random.Generator, *, tokens: int, rate: float | None) -> NewTypes:
        """The new types of one answer; with a ``rate`` each draws its colour first, then a word of it."""
        drawn = dict.fromkeys(map(self._all.word, rng.random(tokens).tolist()))
        new = [(word, self._green[word]) for word in drawn if word not in self.seen]
        if rate is not None:
            new = self._coloured(rng, len(new), rate=rate)
        self.seen.update(word for word, _ in new)
        return new

    def _coloured(self, rng: np.random.Generator, count: int, *, rate: float) -> NewTypes:
        new: dict[int, bool] = {}
        for green in (rng.random(count) < rate).tolist():
            words = self._by_colour[green]
            word = words.word(rng.random())
            while word in self.seen or word in new:
                word = words.word(rng.random())
            new[word] = green
        return list(new.items())
