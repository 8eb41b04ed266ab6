"""What a check is given, what it says, and the interface that every check keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Phase(StrEnum):
    """When a check can speak: before the model is asked, or once its answer is there."""

    REQUEST = "request"
    RESPONSE = "response"


class Status(StrEnum):
    """What a check found, from nothing to a clear hit; the last three are not measurements."""

    CLEAR = "clear"
    SUSPECT = "suspect"  # past the threshold that about 1 % of honest traffic passes
    HIT = "hit"  # past the threshold that no honest traffic seen so far passes
    UNSCORABLE = "unscorable"  # the input itself cannot be measured: a finding of its own
    FAILED = "failed"  # the check's own machinery broke (reference down, queue full): policy decides
    SKIPPED = "skipped"  # nothing for this check to do (no text, no reference wanted)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check's word on one exchange.

    measures: the named numbers behind the status (perplexities, similarities; all finite floats).
    reason: one line for an operator; never holds text of the prompt or of the answer.
    """

    check: str
    status: Status
    measures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Query:
    """The texts a client sent, one per message, oldest first; roles are not kept."""

    texts: tuple[str, ...]


@runtime_checkable
class Check(Protocol):
    """One test of an exchange. ``score`` may block (models run in it): call it off the event loop.

    ``response`` and ``reference`` are ``None`` in the request phase. A check never raises for bad
    *content*, which is ``Status.UNSCORABLE``; what it does raise is a fault of its own machinery.
    """

    name: str
    phase: Phase

    def score(self, query: Query, response: str | None = None, reference: str | None = None) -> Finding: ...


def worst(findings: list[Finding], *, check: str) -> Finding:
    """The gravest of several findings of one check (one per text), or ``SKIPPED`` when there are none."""
    gravity = [Status.SKIPPED, Status.CLEAR, Status.UNSCORABLE, Status.FAILED, Status.SUSPECT, Status.HIT]
    if not findings:
        return Finding(check=check, status=Status.SKIPPED, reason="no text to score")
    return max(findings, key=lambda finding: gravity.index(finding.status))
