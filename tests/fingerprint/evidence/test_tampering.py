"""The tampering matrix: a byte changed anywhere in a bundle is caught, and the step that fails names it.

Each change is tried twice: as it is, and by somebody who signs the altered bundle anew with their own key.
"""

import base64
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from sif_offline.fingerprint import pack_files
from sif_offline.fingerprint.evidence.bundle import EVIDENCE_TYPE, Bundle
from sif_offline.fingerprint.evidence.checked import Checked, Trust
from sif_offline.fingerprint.evidence.signed import Signed
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.statement import make_statement
from sif_offline.fingerprint.evidence.timestamping import request_timestamp
from sif_offline.fingerprint.evidence.verification import verify_bundle
from tests.fingerprint.evidence.authority import Authority
from tests.fingerprint.evidence.case import Case, make_case

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, timestamp_authority: Authority) -> Case:
    """Two rounds against a pirate; commitment and bundle stamped by an authority."""
    folder = tmp_path_factory.mktemp("case")
    return make_case(folder, stamp=lambda data: request_timestamp(data, url=timestamp_authority.url))


@pytest.fixture(scope="module")
def trust(case: Case, timestamp_authority: Authority) -> Trust:
    return Trust(owner=case.signer.public, authorities=(timestamp_authority.root_pem,))


def files_of(bundle: Bundle) -> Files:
    return {name: bundle.files.read(name) for name in bundle.files.names}


def check(files: Files, folder: Path, trust: Trust) -> Checked:
    pack_files.write_new(folder / "tampered", files, checksums=False)
    return verify_bundle(Bundle.read(folder / "tampered"), trust=trust)


def failures(checked: Checked) -> dict[str, str]:
    return {step.name: "; ".join(step.details) for step in checked.steps if step.status == "failed"}


def flip(data: bytes, place: int, bit: int = 1) -> bytes:
    changed = bytearray(data)
    changed[place] ^= bit
    return bytes(changed)


def flip_at(data: bytes, after: bytes) -> bytes:
    """Change the byte that follows ``after``."""
    place = data.index(after) + len(after)
    return flip(data, place)


def lines_swapped(data: bytes, first: int, second: int) -> bytes:
    lines = data.splitlines(keepends=True)
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def sealed_anew(files: Files) -> Files:
    """The altered files under a statement signed by a stranger."""
    others = {name: data for name, data in files.items() if name != "statement.json"}
    old = Signed.parse(files["statement.json"], name="statement.json").unchecked_statement(EVIDENCE_TYPE)
    statement = make_statement(
        subjects={name: sha256(data).hexdigest() for name, data in others.items()},
        predicate_type=EVIDENCE_TYPE,
        predicate=old.predicate,
    )
    signed = Signed.sign(statement, key=SigningKey.generate(), stamp=None)
    return {**others, "statement.json": signed.to_json()}


def altered_answer(files: Files) -> Files:
    """One letter of one answer, in the response body."""
    lines = files["transcript.jsonl"].splitlines(keepends=True)
    row = json.loads(lines[1])
    row["response"] = row["response"].replace('"text":"x ', '"text":"y ')
    lines[1] = json.dumps(row).encode() + b"\n"
    return {**files, "transcript.jsonl": b"".join(lines)}


def altered_policy(files: Files) -> Files:
    """alpha of the committed policy, inside the signed payload and in the numbers."""
    commitment = json.loads(files["commitment.json"])
    payload = base64.b64decode(commitment["envelope"]["payload"])
    assert b'"alpha":0.000001' in payload
    changed = payload.replace(b'"alpha":0.000001', b'"alpha":0.000002')
    commitment["envelope"]["payload"] = base64.b64encode(changed).decode()
    return {**files, "commitment.json": json.dumps(commitment, indent=1).encode() + b"\n"}


def altered_timestamp(files: Files) -> Files:
    commitment = json.loads(files["commitment.json"])
    token = bytearray(base64.b64decode(commitment["timestamp"]))
    place = token.index(b"2026") if b"2026" in token else len(token) // 2
    token[place + 3] ^= 1  # the year
    commitment["timestamp"] = base64.b64encode(bytes(token)).decode()
    return {**files, "commitment.json": json.dumps(commitment, indent=1).encode() + b"\n"}


def altered_signature(files: Files) -> Files:
    commitment = json.loads(files["commitment.json"])
    signature = commitment["envelope"]["signatures"][0]
    signature["sig"] = base64.b64encode(flip(base64.b64decode(signature["sig"]), 7)).decode()
    return {**files, "commitment.json": json.dumps(commitment, indent=1).encode() + b"\n"}


MATRIX: list[tuple[str, Callable[[Files], Files], str, str]] = [
    (
        "trigger",
        lambda f: {**f, "triggers/t00.png": flip(f["triggers/t00.png"], -30)},
        "triggers",
        "picture of trigger t00",
    ),
    (
        "clean photo",
        lambda f: {**f, "clean/t01.png": flip(f["clean/t01.png"], 60)},
        "triggers",
        "clean photo of trigger t01",
    ),
    ("key", lambda f: {**f, "keys.json": flip_at(f["keys.json"], b'"t02": "')}, "keys", "trigger t02"),
    (
        "prompt in the leaf",
        lambda f: {**f, "triggers.json": flip_at(f["triggers.json"], b'"prompt": "')},
        "leaves",
        "prompt",
    ),
    (
        "prompt that was asked",
        lambda f: {**f, "transcript.jsonl": flip_at(f["transcript.jsonl"], b'\\"prompt\\":\\"')},
        "requests",
        "the prompt asked is not the committed one",
    ),
    (
        "tokenizer",
        lambda f: {**f, "tokenizer.json": flip(f["tokenizer.json"], 2000, 2)},
        "tokenizer",
        "not the committed one",
    ),
    ("answer", altered_answer, "chain", "exchange 1: response does not match its digest"),
    (
        "order of rounds",
        lambda f: {**f, "transcript.jsonl": lines_swapped(f["transcript.jsonl"], 2, 8)},
        "chain",
        "does not follow",
    ),
    (
        "last round left out",
        lambda f: {**f, "transcript.jsonl": b"".join(f["transcript.jsonl"].splitlines(keepends=True)[:-6])},
        "chain",
        "does not end where",
    ),
    ("signature", altered_signature, "commitment signature", "signature"),
    ("timestamp", altered_timestamp, "commitment timestamp", "timestamp"),
    ("policy", altered_policy, "policy", "not the committed one"),
    (
        "a figure",
        lambda f: {**f, "numbers.json": flip_at(f["numbers.json"], b'"trigger_answers": ')},
        "scores",
        "trigger_answers",
    ),
]


def test_the_untouched_bundle_holds(case: Case, trust: Trust) -> None:
    checked = verify_bundle(case.bundle, trust=trust)
    assert failures(checked) == {}
    assert {step.status for step in checked.steps} == {"ok"}
    assert checked.judgement is not None
    assert checked.judgement.verdict == "confirmed"


@pytest.mark.parametrize("resealed", [False, True], ids=["as it is", "signed anew"])
@pytest.mark.parametrize(("what", "change", "step", "said"), MATRIX, ids=[row[0] for row in MATRIX])
def test_every_change_is_caught_and_named(
    case: Case,
    trust: Trust,
    tmp_path: Path,
    resealed: bool,
    what: str,
    change: Callable[[Files], Files],
    step: str,
    said: str,
) -> None:
    original = files_of(case.bundle)
    changed = change(dict(original))
    assert changed != original
    found = failures(check(sealed_anew(changed) if resealed else changed, tmp_path, trust))
    assert step in found, f"{what}: {found}"
    assert said in found[step]
    if resealed:
        assert "bundle signature" in found
    else:
        assert "files" in found


def test_a_stranger_who_seals_an_untouched_bundle_anew_is_caught(
    case: Case, trust: Trust, tmp_path: Path
) -> None:
    found = failures(check(sealed_anew(files_of(case.bundle)), tmp_path, trust))
    assert list(found) == ["bundle signature"]


def test_another_owners_commitment_is_caught(case: Case, tmp_path: Path) -> None:
    """All of it made by one stranger: only a key known from elsewhere tells."""
    assert failures(verify_bundle(case.bundle)) == {}
    stranger = Trust(owner=SigningKey.generate().public)
    assert set(failures(verify_bundle(case.bundle, trust=stranger))) == {
        "commitment signature",
        "bundle signature",
    }


def test_no_single_byte_can_be_changed(case: Case, trust: Trust, tmp_path: Path) -> None:
    """Four bytes of every file, chosen by seed: verification fails each time, and never breaks down."""
    generator, original = random.Random(7), files_of(case.bundle)
    for name, data in sorted(original.items()):
        for trial in range(4):
            place, bit = generator.randrange(len(data)), 1 << generator.randrange(8)
            changed = {**original, name: flip(data, place, bit)}
            checked = check(changed, tmp_path / f"{name.replace('/', '-')}-{trial}", trust)
            assert not checked.passed, f"{name}: byte {place} of {len(data)}"


@pytest.mark.parametrize(
    "name", ["keys.json", "triggers.json", "commitment.json", "tokenizer.json", "numbers.json"]
)
def test_a_missing_file_is_named(case: Case, trust: Trust, tmp_path: Path, name: str) -> None:
    files = files_of(case.bundle)
    del files[name]
    found = failures(check(files, tmp_path, trust))
    assert any(name in said for said in found.values())


def test_asking_before_committing_is_caught(tmp_path: Path) -> None:
    """A commitment that is made after the answers were seen proves nothing."""
    from sif_offline.fingerprint.evidence.bundle import material_of, write_bundle
    from sif_offline.fingerprint.evidence.commitment import Policy, commit

    case = make_case(tmp_path / "case")
    late = commit(
        case.pack,
        key=case.signer,
        policy=Policy.of(case.pack),
        created=datetime.fromtimestamp(case.exchanges[-1].record.settled_at + 3600, UTC),
    )
    used = sorted({item.record.trigger_id for item in case.exchanges})
    bundle = write_bundle(
        tmp_path / "late",
        material_of(case.pack, late, case.keys, trigger_ids=used),
        case.exchanges,
        target="suspect",
        key=case.signer,
        created=datetime.now(UTC),
    )
    found = failures(verify_bundle(bundle))
    assert list(found) == ["requests"]
    assert "asked before the commitment was made" in found["requests"]


def test_reserve_triggers_are_not_sent_by_the_probes(case: Case) -> None:
    sent = {case.tiny.trigger_of.get(question.image_sha256) for question in case.sent}
    assert sent == {"t00", "t01", "t02", "t03", "t04", "t05", None}
