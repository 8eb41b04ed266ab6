"""What a check is given, what it says, and the interface that every check keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


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
    beside: the other statuses where several texts were looked at; their rules hold too.
    """

    check: str
    status: Status
    measures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    beside: frozenset[Status] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a client sent that is to be scored.

    texts: one a message, oldest first; roles are not kept.
    images: encoded image files (PNG, JPEG, ...), bounded in bytes but not yet in pixels: bound the pixels
        before decoding. Never URLs: what a client points at is not fetched.
    """

    texts: tuple[str, ...] = field(repr=False)
    images: tuple[bytes, ...] = field(default=(), repr=False)


@runtime_checkable
class Check(Protocol):
    """One test of an exchange. ``score`` may block (models run in it): call it off the event loop.

    ``response`` and ``reference`` are ``None`` in the request phase. A check never raises for bad
    *content*, which is ``Status.UNSCORABLE``; what it does raise is a fault of its own machinery.
    """

    name: str
    phase: Phase

    def score(self, query: Query, response: str | None = None, reference: str | None = None) -> Finding: ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One exchange as an asking check sees it.

    messages: the chat messages in OpenAI's shape, for putting the same question again; empty where the
        route has none that we understand.
    model: the alias that the client asked for.
    """

    query: Query
    messages: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    model: str = ""
    response: str | None = field(default=None, repr=False)
    reference: str | None = field(default=None, repr=False)


class AskError(Exception):
    """A model could not be asked, or what it replied cannot be used.

    kind: timeout, error, empty, budget, content_not_shared, images_not_shared; judge_garbage.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Ask(Protocol):
    """Puts chat messages to a model alias of the gateway; one answer, never retried, never screened."""

    async def __call__(
        self,
        *,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        max_tokens: int,
        temperature: float | None = None,
    ) -> str:
        """The answer's text. Raises :class:`AskError`."""
        ...


@runtime_checkable
class AskingCheck(Protocol):
    """A check that asks a model: the LLM judge, the image-consistency check. Runs on the event loop.

    As with :class:`Check`, bad content is a finding; an :class:`AskError` is a failure of the machinery.
    """

    name: str
    phase: Phase

    async def examine(self, exchange: Asked, ask: Ask) -> Finding: ...


def worst(findings: list[Finding], *, check: str) -> Finding:
    """The gravest of several findings of one check (one per text), or ``SKIPPED`` when there are none.

    The statuses of the others stay ``beside`` it: a suspect text must not hide one that cannot be measured.
    """
    gravity = [Status.SKIPPED, Status.CLEAR, Status.UNSCORABLE, Status.FAILED, Status.SUSPECT, Status.HIT]
    if not findings:
        return Finding(check=check, status=Status.SKIPPED, reason="no text to score")
    found = max(findings, key=lambda finding: gravity.index(finding.status))
    others = frozenset().union(*({one.status, *one.beside} for one in findings)) - {found.status}
    return replace(found, beside=others) if others else found
