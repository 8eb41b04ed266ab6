"""What was asked of whom, and everything that came back without counting: no kind of outcome is left out."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sif_offline.fingerprint.evidence.transcript import ANSWERED, Exchange

MAX_REPLY = 2_000
"""Characters shown of a reply that counts for nothing; the transcript holds the rest."""

_MEANINGS = {
    ANSWERED: "an ordinary answer; scored",
    "refusal": "the endpoint declined to answer",
    "truncated": "the answer broke off before the length that was asked for",
    "content_filter": "the endpoint's content filter cut in",
    "empty": "an answer without text",
}


class Outcome(NamedTuple):
    """One kind of outcome, and how often it came."""

    kind: str
    meaning: str
    triggers: int
    clean: int


class Asked(NamedTuple):
    """A model name and address as the requests had them, and how many requests."""

    model: str
    endpoint: str
    requests: int


class Uncounted(NamedTuple):
    """A reply that is neither a hit nor a miss, with what it said; ``left_out`` characters are not shown."""

    exchange: Exchange
    said: str
    left_out: int


@dataclass(frozen=True)
class Summary:
    """Section 3 in numbers.

    Attributes:
        asked: models and addresses in the requests, most frequent first.
        served: model names in the replies, as the endpoint gave them, with their number.
        outcomes: every kind, answers first.
        uncounted: every exchange that was no answer, in order.
        dropped: exchanges of which a body is no longer held.
    """

    asked: tuple[Asked, ...]
    served: tuple[tuple[str, int], ...]
    outcomes: tuple[Outcome, ...]
    uncounted: tuple[Uncounted, ...]
    dropped: int


def summary_of(exchanges: Sequence[Exchange]) -> Summary:
    """Count a transcript; whatever strangers wrote in it is taken as text."""
    replies = [_reply(item) for item in exchanges]
    asked = Counter(
        (_text(item.asked.get("model")), _text(item.asked.get("endpoint")))
        for item in exchanges
        if item.request is not None
    )
    kinds = sorted({item.record.outcome for item in exchanges}, key=lambda kind: (kind != ANSWERED, kind))
    return Summary(
        asked=tuple(Asked(model, endpoint, number) for (model, endpoint), number in asked.most_common()),
        served=tuple(
            Counter(_text(r["served_model"]) for r in replies if r.get("served_model")).most_common()
        ),
        outcomes=tuple(
            Outcome(kind, _meaning(kind), *(_number(exchanges, kind, control) for control in (False, True)))
            for kind in kinds
        ),
        uncounted=tuple(
            _uncounted(item, reply)
            for item, reply in zip(exchanges, replies, strict=True)
            if item.record.outcome != ANSWERED
        ),
        dropped=sum(item.request is None or item.response is None for item in exchanges),
    )


def _number(exchanges: Sequence[Exchange], kind: str, control: bool) -> int:
    return sum((item.record.outcome, item.record.control) == (kind, control) for item in exchanges)


def _meaning(kind: str) -> str:
    if kind in _MEANINGS:
        return _MEANINGS[kind]
    state, _, reason = kind.partition(":")
    if state == "failed":
        return f"no reply ({reason.replace('_', ' ')}); the question was not answered"
    if state == "in_doubt":
        return f"no reply ({reason.replace('_', ' ')}); the endpoint may have seen the question"
    return "not scored"


def _uncounted(item: Exchange, reply: dict[str, Any]) -> Uncounted:
    if item.response is None:
        return Uncounted(item, "(no longer held)", 0)
    said = _text(reply.get("text")) or _text(reply.get("reason")) or "(no text)"
    return Uncounted(item, said[:MAX_REPLY], max(0, len(said) - MAX_REPLY))


def _reply(item: Exchange) -> dict[str, Any]:
    try:
        value = json.loads(item.response or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """A stranger may put anything where a text belongs."""
    if value is None:
        return ""
    return value if isinstance(value, str) else "(no text, but something else)"
