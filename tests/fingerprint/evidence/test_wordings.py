"""Wordings in the commitment: any that was committed to is evidence, no other is."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sif_offline.fingerprint.evidence.bundle import material_of, write_bundle
from sif_offline.fingerprint.evidence.commitment import Policy, commit, leaves_of
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.exchange_checks import request_faults
from sif_offline.fingerprint.evidence.report import render_report
from sif_offline.fingerprint.evidence.verification import verify_bundle
from sif_offline.fingerprint.pack import FingerprintPack, PackError, set_variants
from tests.fingerprint.evidence.case import RESERVE, Case, make_case

OTHERS = ("What do you see in this picture?", "Tell me about this photo.", "Describe <everything> here.")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), rounds=3, variants=OTHERS)


def test_a_watch_under_several_wordings_is_evidence(case: Case) -> None:
    own = case.pack.triggers[0].prompt
    for control in (False, True):
        asked = {item.asked["prompt"] for item in case.exchanges if item.record.control == control}
        assert len(asked) > 1, "the wording is drawn anew for every question, clean photos too"
        assert asked <= {own, *OTHERS}
    checked = verify_bundle(case.bundle)
    assert checked.passed
    assert case.bundle.numbers["verdict"] == "confirmed"
    (leaves,) = [step for step in checked.steps if step.name == "leaves"]
    assert any("up to 3 other committed wordings" in note for note in leaves.details)
    assert case.bundle.disclosures[0].leaf.variants == OTHERS


def test_the_report_names_every_wording_as_text(case: Case) -> None:
    page = render_report(case.bundle, verify_bundle(case.bundle))
    assert "Tell me about this photo." in page
    assert "Describe &lt;everything&gt; here." in page


def without(pack: FingerprintPack, wording: str) -> FingerprintPack:
    """The pack as an owner would have committed to it without this wording."""
    rows = tuple(
        row.model_copy(update={"variants": tuple(v for v in row.variants if v.prompt != wording)})
        for row in pack.triggers
    )
    return pack.model_copy(update={"triggers": rows})


@pytest.mark.parametrize("wording", OTHERS)
def test_an_exchange_under_a_wording_that_was_not_committed_to_is_refused(
    case: Case, tmp_path: Path, wording: str
) -> None:
    """The same watch under a commitment to all wordings but one: every exchange with that one is named."""
    pack = without(case.pack, wording)
    commitment = commit(
        pack,
        key=case.signer,
        policy=Policy.of(pack),
        created=datetime.now(UTC) - timedelta(hours=1),
        reserve=RESERVE,
    )
    used = sorted({item.record.trigger_id for item in case.exchanges})
    bundle = write_bundle(
        tmp_path / "bundle",
        material_of(pack, commitment, case.keys, trigger_ids=used),
        case.exchanges,
        target="suspect",
        key=case.signer,
        created=datetime.now(UTC),
    )
    failed = {step.name: step.details for step in verify_bundle(bundle).steps if step.status == "failed"}
    assert set(failed) == {"requests"}
    foreign = [item for item in case.exchanges if item.asked["prompt"] == wording]
    said = "the prompt asked is not a committed wording"
    assert foreign
    leaves = {leaf.trigger_id: leaf for leaf in leaves_of(pack, reserve=RESERVE)}
    for item in case.exchanges:
        faults = request_faults(item, leaves[item.record.trigger_id], max_tokens=64)
        assert any(said in fault for fault in faults) == (item in foreign)


def test_a_wording_added_to_a_leaf_afterwards_is_not_under_the_root(case: Case, tmp_path: Path) -> None:
    used = [item.leaf.trigger_id for item in case.bundle.disclosures]
    bundle = write_bundle(
        tmp_path / "bundle",
        material_of(case.pack, case.commitment, case.keys, trigger_ids=used),
        case.exchanges,
        target="suspect",
        key=case.signer,
        created=datetime.now(UTC),
    )
    path = bundle.path / "triggers.json"
    for change in (["Say something green."], [], list(reversed(OTHERS))):
        rows = json.loads(path.read_bytes())
        rows[0]["leaf"]["variants"] = change
        path.write_text(json.dumps(rows))
        failed = [s.name for s in verify_bundle(type(bundle).read(bundle.path)).steps if s.status == "failed"]
        assert "leaves" in failed


def test_a_commitment_holds_the_wordings_that_a_pack_had(case: Case) -> None:
    with pytest.raises(PackError, match="committed"):
        set_variants(case.tiny.folder, {}, rule={})
    used = [item.leaf.trigger_id for item in case.bundle.disclosures]
    with pytest.raises(EvidenceError, match="not the pack that"):
        material_of(without(case.pack, OTHERS[0]), case.commitment, case.keys, trigger_ids=used)
