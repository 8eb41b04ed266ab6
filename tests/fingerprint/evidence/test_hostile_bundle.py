"""Bundles by somebody who signs whatever suits: what was chosen or invented afterwards is named, and nothing
that a bundle can hold breaks the check or the report.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sif_offline.fingerprint import pack_files
from sif_offline.fingerprint.evidence.bundle import EVIDENCE_TYPE, Bundle, write_bundle
from sif_offline.fingerprint.evidence.checked import Trust
from sif_offline.fingerprint.evidence.commitment import (
    COMMITMENT_TYPE,
    Commitment,
    Disclosure,
    Leaf,
    Policy,
    leaves_of,
)
from sif_offline.fingerprint.evidence.merkle import inclusion_path, merkle_root
from sif_offline.fingerprint.evidence.report import render_report
from sif_offline.fingerprint.evidence.signed import Signed
from sif_offline.fingerprint.evidence.statement import make_statement
from sif_offline.fingerprint.evidence.transcript import Exchange, Record, sha256_hex
from sif_offline.fingerprint.evidence.verification import verify_bundle
from tests.fingerprint.evidence.case import Case, make_case

Row = dict[str, Any]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), rounds=1)


def failures(bundle: Bundle) -> dict[str, str]:
    """Failed steps; the report is written too, since it must not break down either."""
    checked = verify_bundle(bundle)
    render_report(bundle, checked, trust=Trust()).encode()
    return {step.name: "; ".join(step.details) for step in checked.steps if step.status == "failed"}


def rewritten(case: Case, change: Callable[[Row, Row, Row], object], folder: Path) -> Bundle:
    """The owner's own bundle over a transcript in which ``change(record, request, response)`` was at work."""
    previous: Record | None = None
    exchanges = []
    for item in case.exchanges:
        record, request = item.record.model_dump(), json.loads(str(item.request))
        response = json.loads(str(item.response))
        change(record, request, response)
        bodies = json.dumps(request), json.dumps(response)
        record["request_sha256"], record["response_sha256"] = (sha256_hex(body.encode()) for body in bodies)
        if previous is not None:
            record["previous"] = previous.digest
        previous = Record.model_validate(record)
        exchanges.append(Exchange(previous, *bodies))
    return bundled(case, exchanges, folder)


def bundled(case: Case, exchanges: list[Exchange], folder: Path) -> Bundle:
    return write_bundle(
        folder / "rewritten",
        case.bundle.material,
        exchanges,
        target="suspect",
        key=case.signer,
        created=datetime.now(UTC),
    )


def set_down_as(outcome: str) -> Callable[[Row, Row, Row], object]:
    """Every other answer that does not suit goes by another name."""
    return lambda record, request, response: record.update(
        outcome=outcome if record["index"] % 2 else record["outcome"]
    )


LIES: list[tuple[str, Callable[[Row, Row, Row], object], str, str]] = [
    ("answers called truncated", set_down_as("truncated"), "answers", "set down as truncated"),
    ("answers called empty", set_down_as("empty"), "answers", "set down as empty"),
    ("answers called filtered", set_down_as("content_filter"), "answers", "set down as content_filter"),
    ("an outcome of one's own", set_down_as("unlucky"), "answers", "an outcome that there is not"),
    ("no raw reply", lambda _a, _b, body: body.update(raw={}, text="so green"), "answers", "no raw reply"),
    ("another text", lambda _a, _b, body: body.update(text="so green"), "answers", "not that of the raw"),
    ("a system prompt", lambda _a, ask, _c: ask.update(system="be green"), "requests", "other fields"),
    ("a temperature", lambda _a, ask, _c: ask.update(temperature=1), "requests", "another temperature"),
    (
        "the future",
        lambda record, _b, _c: record.update(asked_at=1e11, settled_at=1e11),
        "requests",
        "after the bundle was made",
    ),
    (
        "controls and surrogates",
        lambda _a, ask, _c: ask.update(max_tokens="\ud800\x1b]0;" + "x" * 10_000),
        "requests",
        "\\ud800\\x1b",
    ),
]


@pytest.mark.parametrize(("change", "step", "said"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
def test_what_its_own_owner_made_up_is_named(
    case: Case, tmp_path: Path, change: Callable[[Row, Row, Row], object], step: str, said: str
) -> None:
    found = failures(rewritten(case, change, tmp_path))
    assert list(found) == [step]
    assert said in found[step]


def test_a_member_that_stands_twice_in_a_body_is_no_answer(case: Case, tmp_path: Path) -> None:
    """Another reader of the same bytes would take the other one."""
    first, *rest = case.exchanges
    body = '{"text":"what another reader sees",' + str(first.response)[1:]
    record = first.record.model_copy(update={"response_sha256": sha256_hex(body.encode())})
    exchanges = [replace(first, record=record, response=body)]
    for item in rest:
        record = item.record.model_copy(update={"previous": exchanges[-1].record.digest})
        exchanges.append(replace(item, record=record))
    found = failures(bundled(case, exchanges, tmp_path))
    assert list(found) == ["answers"]
    assert "exchange 0: an answer without a text" in found["answers"]


def test_two_models_in_one_chain_are_pointed_out(case: Case, tmp_path: Path) -> None:
    bundle = rewritten(
        case, lambda record, ask, _: ask.update(model=f"model-{record['index'] % 2}"), tmp_path
    )
    (requests,) = [step for step in verify_bundle(bundle).steps if step.name == "requests"]
    assert any("WARNING" in line and "model-0" in line and "model-1" in line for line in requests.details)


def test_an_answer_set_down_as_a_refusal_is_caught(case: Case, tmp_path: Path) -> None:
    found = failures(rewritten(case, set_down_as("refusal"), tmp_path))
    assert "exchange 1: set down as refusal, but the reply is answer" in found["answers"]


def committed_anew(case: Case, leaves: list[Leaf], folder: Path, **files: bytes) -> Bundle:
    """A bundle whose owner committed to ``leaves``, and signed everything."""
    _, head = case.commitment.open()
    encoded = [leaf.encoded() for leaf in leaves]
    statement = make_statement(
        subjects={"sif-pack:x": merkle_root(encoded).hex()},
        predicate_type=COMMITMENT_TYPE,
        predicate=head.model_copy(update={"triggers": len(leaves)}).model_dump(mode="json"),
    )
    disclosures = [
        Disclosure(leaf=leaf, index=i, path=tuple(step.hex() for step in inclusion_path(encoded, i)))
        for i, leaf in enumerate(leaves)
        if leaf.trigger_id in case.bundle.keys
    ]
    return sealed(
        case,
        folder,
        {
            "commitment.json": Commitment.sign(statement, key=case.signer, stamp=None).to_json(),
            "triggers.json": json.dumps([item.model_dump(mode="json") for item in disclosures]).encode(),
            **{name.replace("_", "."): data for name, data in files.items()},
        },
    )


def sealed(case: Case, folder: Path, changed: Mapping[str, bytes]) -> Bundle:
    """The bundle with some files changed, signed by its owner."""
    original = case.bundle.files
    files = {name: original.read(name) for name in original.names if name != "statement.json"} | changed
    statement = make_statement(
        subjects={name: sha256(data).hexdigest() for name, data in files.items()},
        predicate_type=EVIDENCE_TYPE,
        predicate=case.bundle.statement.unchecked_statement(EVIDENCE_TYPE).predicate,
    )
    files["statement.json"] = Signed.sign(statement, key=case.signer, stamp=None).to_json()
    pack_files.write_new(folder / "sealed", files, checksums=False)
    return Bundle.read(folder / "sealed")


def test_keys_kept_up_the_sleeve_are_counted(case: Case, tmp_path: Path) -> None:
    """A million leaves for four pictures: the owner could have disclosed the keys that fit."""
    leaves = list(leaves_of(case.pack, reserve=case.commitment.reserve))
    spare = [leaves[0].model_copy(update={"trigger_id": f"spare-{i}"}) for i in range(5_000)]
    bundle = committed_anew(case, leaves + spare, tmp_path)
    checked = verify_bundle(bundle)
    assert checked.passed
    (step,) = [step for step in checked.steps if step.name == "leaves"]
    assert any("could multiply E by up to 10^12.4" in line for line in step.details), step.details


def test_one_picture_under_two_keys_is_caught(case: Case, tmp_path: Path) -> None:
    leaves = list(leaves_of(case.pack, reserve=case.commitment.reserve))
    used = [i for i, leaf in enumerate(leaves) if leaf.trigger_id in case.bundle.keys]
    leaves[used[1]] = leaves[used[1]].model_copy(update={"trigger_sha256": leaves[used[0]].trigger_sha256})
    assert "two triggers share one picture" in failures(committed_anew(case, leaves, tmp_path))["leaves"]


def test_reserve_triggers_that_the_owner_sent_are_caught(case: Case, tmp_path: Path) -> None:
    leaves = [leaf.model_copy(update={"reserve": True}) for leaf in leaves_of(case.pack, reserve=())]
    assert "not for its owner to send" in failures(committed_anew(case, leaves, tmp_path))["requests"]


@pytest.mark.parametrize("kind", ["WordLevel", "WordPiece", "Unigram"])
def test_a_tokenizer_that_breaks_down_fails_the_scores(case: Case, tmp_path: Path, kind: str) -> None:
    """The library raises a bare ``Exception`` for a word that such a model cannot name."""
    model: dict[str, Any] = {"type": kind, "vocab": {"a": 0}, "unk_token": "<unknown>"}
    if kind == "WordPiece":
        model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    elif kind == "Unigram":
        model = {"type": kind, "vocab": [["a", 0.0]], "unk_id": None}
    data = json.dumps({**json.loads(case.bundle.files.read("tokenizer.json")), "model": model}).encode()
    leaves = [
        leaf.model_copy(update={"tokenizer_sha256": sha256(data).hexdigest()})
        for leaf in leaves_of(case.pack, reserve=case.commitment.reserve)
    ]
    found = failures(committed_anew(case, leaves, tmp_path, tokenizer_json=data))
    assert list(found) == ["scores"]
    assert "cannot be computed" in found["scores"]


@pytest.mark.parametrize(
    "change",
    [
        lambda numbers: numbers["answers"][0].update(z=10**400),
        lambda numbers: numbers["e_process"]["independent_text"].update(anytime_pvalue=True),
        lambda numbers: numbers.update({"\ud800\x1b[31m": 1}),
        lambda numbers: numbers.update({str(i): 1 for i in range(100_000)}),
    ],
    ids=["beyond every float", "true for 1", "controls", "a hundred thousand"],
)
def test_figures_of_any_kind_are_refused(case: Case, tmp_path: Path, change: Callable[[Row], object]) -> None:
    numbers = json.loads(case.bundle.files.read("numbers.json"))
    change(numbers)
    bundle = sealed(case, tmp_path, {"numbers.json": json.dumps(numbers).encode()})
    found = failures(bundle)
    assert list(found) == ["scores"]
    assert len(found["scores"]) < 30_000
    assert "\x1b" not in found["scores"]


@pytest.mark.parametrize(
    "change",
    [{"alpha": 0.5}, {"transfer": 0.9}, {"transfer": 0.0, "null_models": ()}],
    ids=["confirmed before suspicious", "beyond 1", "a bound from nothing"],
)
def test_policies_that_mean_nothing_are_refused(case: Case, change: Row) -> None:
    with pytest.raises(ValidationError):
        Policy(**{**Policy.of(case.pack).model_dump(), **change})
