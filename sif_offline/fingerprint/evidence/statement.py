"""in-toto Statements (v1): a signed sentence about things named by their hash.

A statement says ``predicate`` of ``subjects``; ``predicate_type`` says how to read the predicate. It travels
as the payload of a DSSE envelope (``signing``), where its type is ``PAYLOAD_TYPE``.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sif_offline.fingerprint.evidence.canonical import canonical_json, parse_canonical
from sif_offline.fingerprint.evidence.errors import EvidenceError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""DSSE payload type of every statement."""
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Statement(NamedTuple):
    """What a statement says.

    Attributes:
        subjects: name -> lower-case hex sha256; at least one.
        predicate: a JSON object.
    """

    subjects: dict[str, str]
    predicate: dict[str, Any]


def make_statement(
    *, subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]
) -> bytes:
    """The statement as canonical JSON, subjects sorted by name (by code point).

    Raises:
        ValueError: no subject, an empty name, or a digest that is not 64 lower-case hex digits.
        EvidenceError: the predicate has no canonical JSON form.
    """
    if not subjects:
        raise ValueError("a statement needs a subject")
    for name, digest in subjects.items():
        if not name or not _SHA256.fullmatch(digest):
            raise ValueError(f"subject {name!r}: needs a name and 64 lower-case hex digits, got {digest!r}")
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
            "predicateType": predicate_type,
            "predicate": dict(predicate),
        }
    )


def read_statement(data: bytes, *, predicate_type: str) -> Statement:
    """Read what :func:`make_statement` wrote, and nothing else: canonical bytes, the four members alone, this
    predicate type, subjects sorted, each with a sha256 and no other digest.

    Raises:
        EvidenceError: anything else.
    """
    body = parse_canonical(data)
    if not isinstance(body, dict) or set(body) != {"_type", "subject", "predicateType", "predicate"}:
        raise EvidenceError("statement: not an in-toto statement of four members")
    if body["_type"] != STATEMENT_TYPE:
        raise EvidenceError(f"statement: _type is not {STATEMENT_TYPE}")
    if body["predicateType"] != predicate_type:
        raise EvidenceError(f"statement: predicate type is not {predicate_type}")
    if not isinstance(body["predicate"], dict):
        raise EvidenceError("statement: the predicate is not a JSON object")
    return Statement(subjects=_subjects(body["subject"]), predicate=body["predicate"])


def _subjects(rows: Any) -> dict[str, str]:
    if not isinstance(rows, list) or not rows:
        raise EvidenceError("statement: no subjects")
    subjects: dict[str, str] = {}
    for row in rows:
        match row:
            case {"name": str(name), "digest": {"sha256": str(digest), **others}, **more} if (
                name and not others and not more and _SHA256.fullmatch(digest)
            ):
                subjects[name] = digest
            case _:
                raise EvidenceError("statement: a subject is not a name with one sha256")
    if list(subjects) != sorted(subjects) or len(subjects) != len(rows):
        raise EvidenceError("statement: subjects are repeated or out of order")
    return subjects
