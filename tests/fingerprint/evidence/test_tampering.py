"""The tampering matrix: a byte changed anywhere in a bundle is caught, and the step that fails names it.

Each change is tried twice: as it is, and by somebody who signs the altered bundle anew with their own key.
Bundles of both kinds are put to it.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from sif_offline.fingerprint import pack_files
from sif_offline.fingerprint.evidence.bundle import Bundle
from sif_offline.fingerprint.evidence.checked import Checked, Trust
from sif_offline.fingerprint.evidence.metav.bundle import MetaVBundle
from sif_offline.fingerprint.evidence.reading import read_bundle, verify_any_bundle
from sif_offline.fingerprint.evidence.signed import Stamp
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.timestamping import request_timestamp
from sif_offline.fingerprint.evidence.verification import verify_bundle
from tests.fingerprint.evidence.authority import Authority
from tests.fingerprint.evidence.case import Case, failures, make_case
from tests.fingerprint.evidence.metav_case import MetaVCase, make_metav_case
from tests.fingerprint.evidence.tampering import METAV_MATRIX, SIF_MATRIX, Files, flip, sealed_anew

AnyCase = Case | MetaVCase
ROWS = [("sif", *row) for row in SIF_MATRIX] + [("metav", *row) for row in METAV_MATRIX]


@pytest.fixture(scope="module")
def stamp(timestamp_authority: Authority) -> Stamp:
    return partial(request_timestamp, url=timestamp_authority.url)


@pytest.fixture(scope="module")
def sif(tmp_path_factory: pytest.TempPathFactory, stamp: Stamp) -> Case:
    """Two rounds against a pirate; commitment and bundle stamped by an authority."""
    return make_case(tmp_path_factory.mktemp("case"), stamp=stamp)


@pytest.fixture(scope="module")
def metav(tmp_path_factory: pytest.TempPathFactory, stamp: Stamp) -> MetaVCase:
    """Likewise."""
    return make_metav_case(tmp_path_factory.mktemp("metav-case"), stamp=stamp)


@pytest.fixture(params=["sif", "metav"])
def case(request: pytest.FixtureRequest) -> AnyCase:
    return request.getfixturevalue(request.param)


@pytest.fixture
def trust(case: AnyCase, timestamp_authority: Authority) -> Trust:
    return Trust(owner=case.signer.public, authorities=(timestamp_authority.root_pem,))


def files_of(bundle: Bundle | MetaVBundle) -> Files:
    return {name: bundle.files.read(name) for name in bundle.files.names}


def check(files: Files, folder: Path, trust: Trust) -> Checked:
    pack_files.write_new(folder / "tampered", files, checksums=False)
    return verify_any_bundle(read_bundle(folder / "tampered"), trust=trust)


def test_the_untouched_bundle_holds(case: AnyCase, trust: Trust) -> None:
    checked = verify_any_bundle(case.bundle, trust=trust)
    assert failures(checked) == {}
    assert {step.status for step in checked.steps} == {"ok"}
    assert checked.judgement is not None
    assert checked.judgement.verdict == "confirmed"


@pytest.mark.parametrize("resealed", [False, True], ids=["as it is", "signed anew"])
@pytest.mark.parametrize(
    ("case", "what", "change", "step", "said"),
    ROWS,
    ids=[f"{kind}-{what}" for kind, what, *_ in ROWS],
    indirect=["case"],
)
def test_every_change_is_caught_and_named(
    case: AnyCase,
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
    assert ("bundle signature" if resealed else "files") in found


def test_a_stranger_who_seals_an_untouched_bundle_anew_is_caught(
    case: AnyCase, trust: Trust, tmp_path: Path
) -> None:
    found = failures(check(sealed_anew(files_of(case.bundle)), tmp_path, trust))
    assert list(found) == ["bundle signature"]


def test_another_owners_commitment_is_caught(case: AnyCase) -> None:
    """All of it made by one stranger: only a key known from elsewhere tells."""
    assert failures(verify_any_bundle(case.bundle)) == {}
    stranger = Trust(owner=SigningKey.generate().public)
    assert set(failures(verify_any_bundle(case.bundle, trust=stranger))) == {
        "commitment signature",
        "bundle signature",
    }


def test_no_single_byte_can_be_changed(case: AnyCase, trust: Trust, tmp_path: Path) -> None:
    """Four bytes of every file, chosen by seed: verification fails each time, and never breaks down."""
    generator, original = random.Random(7), files_of(case.bundle)
    for name, data in sorted(original.items()):
        for trial in range(4):
            place, bit = generator.randrange(len(data)), 1 << generator.randrange(8)
            changed = {**original, name: flip(data, place, bit)}
            checked = check(changed, tmp_path / f"{name.replace('/', '-')}-{trial}", trust)
            assert not checked.passed, f"{name}: byte {place} of {len(data)}"


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("sif", "keys.json"),
        ("sif", "triggers.json"),
        ("sif", "commitment.json"),
        ("sif", "tokenizer.json"),
        ("sif", "numbers.json"),
        ("metav", "pack.json"),
        ("metav", "verifier.safetensors"),
        ("metav", "commitment.json"),
        ("metav", "protocol.json"),
    ],
    indirect=["case"],
)
def test_a_missing_file_is_named(case: AnyCase, trust: Trust, tmp_path: Path, name: str) -> None:
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


def test_reserve_triggers_are_not_sent_by_the_probes(sif: Case) -> None:
    sent = {sif.tiny.trigger_of.get(question.image_sha256) for question in sif.sent}
    assert sent == {"t00", "t01", "t02", "t03", "t04", "t05", None}
