"""Bundles: what the probes' store says is what a bundle says; innocents, uncalibrated packs, kits."""

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from probes.store import open_store
from probes.store.reading import last_rounds
from sif_offline.fingerprint.evidence.bundle import Bundle, material_of, write_bundle
from sif_offline.fingerprint.evidence.checked import Trust
from sif_offline.fingerprint.evidence.commitment import Policy, commit
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.report import render_report
from sif_offline.fingerprint.evidence.verification import verify_bundle
from sif_offline.fingerprint.pack import PackError
from tests.fingerprint.evidence.case import Case, make_case


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


def test_the_bundle_says_what_the_probes_said(case: Case) -> None:
    """Two roads to the same e-values: the watch's own, answer by answer, and the bundle's recomputation."""
    with open_store(f"sqlite:///{case.tiny.folder.parent / 'probes.sqlite'}") as store:
        last = last_rounds(store, "suspect", pack_id=case.pack.pack_id, limit=1)[0]
    process = case.bundle.numbers["e_process"]
    assert process["unrelated_model"]["log10_e"] == pytest.approx((last.log_e or 0) / math.log(10), rel=1e-12)
    assert process["independent_text"]["log10_e"] == pytest.approx(
        (last.log_e_independent or 0) / math.log(10), rel=1e-12
    )
    assert case.bundle.numbers["verdict"] == last.verdict == "confirmed"


def test_a_zip_and_a_directory_hold_alike(case: Case, tmp_path: Path) -> None:
    used = [item.leaf.trigger_id for item in case.bundle.disclosures]
    zipped = write_bundle(
        tmp_path / "bundle.zip",
        material_of(case.pack, case.commitment, case.keys, trigger_ids=used),
        case.exchanges,
        target="suspect",
        key=case.signer,
        created=datetime.now(UTC),
    )
    assert zipped.path.is_file()
    assert verify_bundle(zipped).passed
    assert zipped.numbers == case.bundle.numbers
    with pytest.raises(PackError, match="exists already"):
        write_bundle(
            tmp_path / "bundle.zip",
            zipped.material,
            (),
            target="",
            key=case.signer,
            created=datetime.now(UTC),
        )


def test_an_innocent_is_not_confirmed_and_its_bundle_holds(tmp_path: Path) -> None:
    case = make_case(tmp_path, pirate=False)
    checked = verify_bundle(case.bundle)
    assert checked.passed
    assert case.bundle.numbers["verdict"] == "none"
    assert case.bundle.numbers["unrelated_model"]["pvalue"] > 1e-3


def test_without_null_models_nothing_is_confirmed(tmp_path: Path) -> None:
    case = make_case(tmp_path, calibrated=False)
    assert verify_bundle(case.bundle).passed
    assert case.bundle.numbers["unrelated_model"] is None
    assert case.bundle.numbers["e_process"]["independent_text"]["anytime_pvalue"] < 1e-6
    assert case.bundle.numbers["verdict"] == "suspicious"


def test_a_kit_without_exchanges_holds_and_claims_nothing(case: Case, tmp_path: Path) -> None:
    kit = write_bundle(
        tmp_path / "kit",
        material_of(case.pack, case.commitment, case.keys, trigger_ids=["t06", "t07"]),
        (),
        target="",
        key=case.signer,
        created=datetime.now(UTC),
    )
    checked = verify_bundle(kit)
    assert checked.passed
    assert {step.name for step in checked.steps if step.status == "not checked"} == {
        "commitment timestamp",
        "chain",
        "requests",
        "answers",
        "bundle timestamp",
    }
    assert kit.numbers["verdict"] == "none"
    assert kit.numbers["independent_text"] is None


def test_the_demo_secret_is_named(case: Case) -> None:
    (keys,) = [step for step in verify_bundle(case.bundle).steps if step.name == "keys"]
    assert any("published demo secret" in line for line in keys.details)
    checked = verify_bundle(case.bundle)
    assert any("proves nothing about anybody" in warning for warning in checked.warnings)
    finding = render_report(case.bundle, checked, trust=Trust()).partition('id="claimed"')[0]
    assert "proves nothing about anybody" in finding, "CONFIRMED, and no word of it beside"


def test_another_packs_commitment_is_refused(case: Case) -> None:
    policy = Policy.of(case.pack, alpha=1e-3)
    other = commit(case.pack, key=case.signer, policy=policy, created=datetime.now(UTC), reserve=["t00"])
    mixed = other.model_copy(update={"reserve": ()})
    with pytest.raises(EvidenceError, match="not the pack that commitment"):
        material_of(case.pack, mixed, case.keys, trigger_ids=["t00"])


def test_two_keys_for_one_picture_are_not_committed_to(case: Case) -> None:
    first, second, *rest = case.pack.triggers
    twice = case.pack.model_copy(
        update={"triggers": (first, second.model_copy(update={"sha256": first.sha256}), *rest)}
    )
    with pytest.raises(EvidenceError, match="two triggers share one picture"):
        commit(twice, key=case.signer, policy=Policy.of(twice), created=datetime.now(UTC))


def test_an_answer_that_retention_dropped_is_named(case: Case, tmp_path: Path) -> None:
    """The chain still verifies; the figures cannot be recomputed, and that is said."""
    from dataclasses import replace

    used = [item.leaf.trigger_id for item in case.bundle.disclosures]
    place = next(i for i, item in enumerate(case.exchanges) if not item.record.control)
    thinned = [*case.exchanges]
    thinned[place] = replace(thinned[place], response=None)
    bundle = write_bundle(
        tmp_path / "thinned",
        material_of(case.pack, case.commitment, case.keys, trigger_ids=used),
        thinned,
        target="suspect",
        key=case.signer,
        created=datetime.now(UTC),
    )
    failed = {step.name: step.details for step in verify_bundle(bundle).steps if step.status == "failed"}
    assert list(failed) == ["answers"]
    assert failed["answers"] == (f"exchange {place}: the answer is no longer held",)


@pytest.mark.parametrize("what", ["absent", "empty", "file"])
def test_what_is_no_bundle_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "empty":
        path.mkdir()
    elif what == "file":
        path.write_text("{}")
    with pytest.raises(PackError, match=what):
        Bundle.read(path)
