"""in-toto statements: one form out, that form alone in."""

import json
from typing import Any

import pytest

from sif_offline.fingerprint.evidence.canonical import canonical_json
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.statement import Statement, make_statement, read_statement

KIND = "https://example.org/commitment/v1"
A, B = "a" * 64, "b" * 64


def statement(**changed: Any) -> bytes:
    body = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "a", "digest": {"sha256": A}}, {"name": "b", "digest": {"sha256": B}}],
        "predicateType": KIND,
        "predicate": {"size": 3},
    }
    return canonical_json({name: value for name, value in (body | changed).items() if value is not ...})


def test_form() -> None:
    """As the specification writes it: in-toto Attestation Framework, Statement v1."""
    made = make_statement(subjects={"b": B, "a": A}, predicate_type=KIND, predicate={"size": 3})
    assert made == statement()
    assert json.loads(made)["subject"][0] == {"name": "a", "digest": {"sha256": A}}


def test_round_trip() -> None:
    predicate = {"time": "2026-01-02", "evalue": 1e17, "nested": [{"x": None}], "name": "Z\u00fcrich"}
    made = make_statement(subjects={"root": A}, predicate_type=KIND, predicate=predicate)
    assert read_statement(made, predicate_type=KIND) == Statement(subjects={"root": A}, predicate=predicate)


@pytest.mark.parametrize("subjects", [{}, {"": A}, {"a": "A" * 64}, {"a": "a" * 63}, {"a": A + "\n"}])
def test_a_statement_needs_named_hashes(subjects: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="subject"):
        make_statement(subjects=subjects, predicate_type=KIND, predicate={})


def test_a_predicate_without_canonical_form() -> None:
    with pytest.raises(EvidenceError, match="canonical"):
        make_statement(subjects={"a": A}, predicate_type=KIND, predicate={"x": float("nan")})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        statement() + b"\n",
        json.dumps(json.loads(statement())).encode(),
        statement(_type="https://in-toto.io/Statement/v0.1"),
        statement(_type=...),
        statement(extra=1),
        statement(predicateType="https://example.org/other"),
        statement(predicateType=None),
        statement(predicate=...),
        statement(predicate=None),
        statement(predicate=[]),
        statement(subject=...),
        statement(subject=[]),
        statement(subject={}),
        statement(subject=["a"]),
        statement(subject=[{"name": "a"}]),
        statement(subject=[{"digest": {"sha256": A}}]),
        statement(subject=[{"name": "", "digest": {"sha256": A}}]),
        statement(subject=[{"name": "a", "digest": {}}]),
        statement(subject=[{"name": "a", "digest": {"sha256": A.upper()}}]),
        statement(subject=[{"name": "a", "digest": {"sha256": A, "sha512": A}}]),
        statement(subject=[{"name": "a", "digest": {"sha256": A}, "uri": "x"}]),
        statement(subject=[{"name": "a", "digest": {"sha256": A}}] * 2),
        statement(subject=[{"name": "b", "digest": {"sha256": A}}, {"name": "a", "digest": {"sha256": A}}]),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError, match=r"statement|JSON"):
        read_statement(data, predicate_type=KIND)
