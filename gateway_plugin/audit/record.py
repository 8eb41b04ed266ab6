"""One screened exchange, as it is kept."""

import hashlib
import math
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from numbers import Real
from typing import Any, Protocol

from sif_offline.fingerprint.errors import SifError

VERSION = 1
"""Of the record's form; a field that is added does not change it."""

_MAX_LABEL = 512
"""Longest identity, alias or reason kept: clients choose some of them."""

_ENCODED_FILE = re.compile(r"[A-Za-z0-9+/_-]{512,}+={0,2}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class AuditError(SifError):
    """An audit sink that cannot be written just now, or at all."""


@dataclass(frozen=True, kw_only=True)
class AuditRecord:
    """Who asked, what was measured and what was done, in one phase of one exchange.

    There is no field for a picture, and texts are there only where the operator asked for them; a picture
    that was written out in such a text is left out of it. One record is kept an ``audit_id`` and ``phase``.

    Attributes:
        audit_id: 32 hex digits; what a replaced answer's header shows.
        at: when the phase was decided; with a time zone.
        guardrail, phase, route: which screening, ``request`` or ``response``, and the kind of call.
        call_id: the proxy's name for the call, the same in both phases.
        model: the alias asked for.
        team, key, end_user: who, as the proxy gives it: aliases or hashes. A raw key (``sk-...``) given by
            mistake is kept as its SHA-256, which is what LiteLLM's tables hold.
        action, effective, by: what the policy asked for, what was done, and the check that asked.
        dry_run: whether the action was only counted.
        bypassed: checks that were broken and let the exchange pass.
        findings: of each check: ``status``, its measures (floats), ``reason``.
        replaced_by: the model whose answer took the place of the main one's, empty where none did.
        billed_models: those that were asked and cost.
        reference: how asking for a reference answer went: ``outcome``, ``seconds``, ``prompt_tokens``,
            ``completion_tokens``, ``cost`` (US dollars).
        prompt, answer: the texts, None unless asked for.
    """

    audit_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    guardrail: str = ""
    phase: str
    route: str = ""
    call_id: str = ""
    model: str = ""
    team: str = ""
    key: str = ""
    end_user: str = ""
    action: str
    effective: str
    by: str = ""
    dry_run: bool = False
    bypassed: tuple[str, ...] = ()
    findings: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    replaced_by: str = ""
    billed_models: tuple[str, ...] = ()
    reference: Mapping[str, float | str | None] = field(default_factory=dict)
    prompt: str | None = field(default=None, repr=False)
    answer: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a time without a zone: nobody could tell what it means."""
        if self.at.tzinfo is None:
            raise ValueError("an audit record's time needs a time zone")

    @property
    def size(self) -> int:
        """About how much memory the record takes, bytes."""
        return 2000 + sum(sys.getsizeof(text) for text in (self.prompt, self.answer) if text)

    def row(self) -> dict[str, Any]:
        """The record as any store takes it: JSON values by field name, except ``at``, which is in UTC.

        Numbers are finite (others become None), texts hold neither NUL nor lone surrogates (they become
        U+FFFD, since PostgreSQL takes neither), labels are at most 512 characters.
        """
        row: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("prompt", "answer"):
                row[each.name] = None if value is None else _storable(_without_files(value))
            elif each.name != "at":
                row[each.name] = _plain(value)
        return row | {"at": self.at.astimezone(UTC), "key": _no_raw_key(row["key"])}


class AuditSink(Protocol):
    """Where records end up. Written by one thread."""

    def write(self, records: Sequence[AuditRecord]) -> None:
        """Store all of them, or none. Raises :class:`AuditError` where trying again may help."""
        ...

    def close(self) -> None:
        """Let go of what is open; a later ``write`` opens it again."""
        ...


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _storable(value[:_MAX_LABEL])
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, Real):  # numpy's too
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, Mapping):
        return {_plain(str(name)): _plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [_plain(inner) for inner in value]
    return _plain(str(value))


def _storable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", str(text))


def _without_files(text: str) -> str:
    """A pass-through route's text is the whole request with its pictures in base64."""
    return _ENCODED_FILE.sub(lambda found: f"[{len(found[0])} characters of base64]", text)


def _no_raw_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest() if key.startswith("sk-") else key
