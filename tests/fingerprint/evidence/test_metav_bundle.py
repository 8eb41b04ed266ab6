"""Bundles of MetaV packs: what the watch writes holds, and a chain made up anew does not."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.testing import tiny_metav
from probes.testing.tiny_metav import NEGATIVES, QUERIES, build_tiny_metav
from sif_offline.fingerprint.evidence.bundle import Bundle
from sif_offline.fingerprint.evidence.canonical import canonical_json
from sif_offline.fingerprint.evidence.checked import Trust
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.metav.bundle import MetaVBundle, write_metav_bundle
from sif_offline.fingerprint.evidence.metav.commitment import MetaVPolicy, commit_metav
from sif_offline.fingerprint.evidence.metav.judgement import judge_metav
from sif_offline.fingerprint.evidence.reading import read_bundle, verify_any_bundle
from sif_offline.fingerprint.evidence.transcript import Exchange, exchange, request_body
from sif_offline.fingerprint.metav.pack import MetaVPack, query_digest
from sif_offline.fingerprint.metav.scoring import MetaVScorer
from sif_offline.fingerprint.pack_files import PackError
from tests.fingerprint.evidence.case import failures
from tests.fingerprint.evidence.metav_case import ALPHA, PROTOCOL, MetaVCase, make_metav_case


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> MetaVCase:
    return make_metav_case(tmp_path_factory.mktemp("metav-case"))


def bundled(case: MetaVCase, exchanges: tuple[Exchange, ...], path: Path, **changes: Any) -> MetaVBundle:
    """As an owner would make it, honest or not."""
    given: dict[str, Any] = {"protocol": PROTOCOL, "target": "pirate", "key": case.signer}
    given |= {"created": datetime.now(UTC)} | changes
    return write_metav_bundle(path, case.pack, given.pop("commitment", case.commitment), exchanges, **given)


def chained(exchanges: tuple[Exchange, ...], change: Callable[[int, dict[str, Any]], None]) -> Any:
    """The chain made anew after ``change(place, fields)`` of every link."""
    made: list[Exchange] = []
    for place, item in enumerate(exchanges):
        fields = item.record.model_dump(
            exclude={"index", "previous", "request_sha256", "response_sha256", "extensions"}
        )
        fields |= {"request": item.request, "response": json.loads(item.response or "{}")}
        change(place, fields)
        made.append(exchange(made[-1].record if made else None, **fields))
    return tuple(made)


def test_the_watch_writes_a_bundle_at_confirmed_and_it_verifies(case: MetaVCase) -> None:
    first, second = case.summaries
    assert (first.verdict, second.verdict) == ("confirmed", "confirmed")
    bundle = read_bundle(case.by_itself)
    assert isinstance(bundle, MetaVBundle)
    checked = verify_any_bundle(bundle, trust=Trust(owner=case.signer.public))
    assert failures(checked) == {}
    assert bundle.numbers["score"]["log_odds"] == first.score, "what the watch said"
    assert bundle.numbers["looks"]["count"] == 1
    assert len(bundle.exchanges) == QUERIES


def test_the_untouched_bundle_states_its_figures_and_warns_of_nothing(case: MetaVCase) -> None:
    checked = verify_any_bundle(case.bundle)
    assert {(step.name, step.status) for step in checked.steps} >= {("pack", "ok"), ("answers", "ok")}
    assert checked.warnings == ()
    numbers = case.bundle.numbers
    assert numbers["score"] == {
        "log_odds": case.summaries[1].score,
        "pvalue": ALPHA,
        "negatives": NEGATIVES,
        "floor": ALPHA,
    }
    assert numbers["looks"] == {"count": 2, "largest_pvalue": ALPHA, "smallest_pvalue": ALPHA}
    assert (numbers["asked"], numbers["verdict"]) == (2 * QUERIES, "confirmed")
    assert all(len(places) == 2 for places in numbers["answers_used"].values())


def said_otherwise(place: int, fields: dict[str, Any]) -> None:
    """The owner's own numbers in place of one answer, the raw reply as it was."""
    if place == 3:
        fields["response"]["text"] = "[0.2,0.2,0.2,0.2,0.2]"


def called_otherwise(place: int, fields: dict[str, Any]) -> None:
    """An answer that did not suit, set down as something else."""
    if place == 3:
        fields["outcome"] = "wrong_size"


def asked_otherwise(place: int, fields: dict[str, Any]) -> None:
    if place == 3:
        fields["request"] = fields["request"].replace('"temperature":0', '"temperature":0,"x":1')


def another_query(place: int, fields: dict[str, Any]) -> None:
    if place == 3:
        fields["trigger_id"] = "q999"


@pytest.mark.parametrize(
    ("change", "step", "said"),
    [
        (said_otherwise, "answers", "exchange 3: the numbers are not those of the raw reply"),
        (called_otherwise, "answers", "exchange 3: set down as wrong_size, and has 5 numbers"),
        (asked_otherwise, "requests", "exchange 3: the request holds other fields"),
        (another_query, "requests", "exchange 3: query q999 is none of the pack's"),
    ],
    ids=["numbers", "outcome", "request", "query"],
)
def test_an_owner_who_makes_the_chain_up_is_caught(
    case: MetaVCase, tmp_path: Path, change: Any, step: str, said: str
) -> None:
    """Every digest and signature is made anew: what was sent and what came back still do not fit."""
    bundle = bundled(case, chained(case.exchanges, change), tmp_path / "made")
    found = failures(verify_any_bundle(bundle))
    assert list(found) == [step]
    assert said in found[step]


def test_a_commitment_after_the_answers_is_caught(case: MetaVCase, tmp_path: Path) -> None:
    late = commit_metav(
        case.pack,
        key=case.signer,
        policy=MetaVPolicy(alpha=ALPHA),
        created=datetime.now(UTC) + timedelta(hours=1),
    )
    found = failures(verify_any_bundle(bundled(case, case.exchanges, tmp_path / "late", commitment=late)))
    assert list(found) == ["requests"]
    assert "asked before the commitment was made" in found["requests"]


def test_the_two_kinds_are_not_taken_for_each_other(case: MetaVCase, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="of kind metav-evidence, and this takes sif-evidence"):
        Bundle.read(case.by_itself)
    other = build_tiny_metav(tmp_path / "texts", texts=True)
    with pytest.raises(EvidenceError, match="not the pack that commitment"):
        bundled(replace(case, pack=other), (), tmp_path / "other")
    with pytest.raises(PackError, match="no such pack"):
        read_bundle(tmp_path / "nothing")


def test_a_level_that_the_negatives_cannot_support_is_not_committed_to(case: MetaVCase) -> None:
    with pytest.raises(EvidenceError, match=r"can confirm nothing below 0\.01"):
        commit_metav(case.pack, key=case.signer, policy=MetaVPolicy(alpha=0.009), created=datetime.now(UTC))


def answered(pack: MetaVPack, rounds: list[Callable[[Any], Any]], **asked: str) -> tuple[Exchange, ...]:
    """A chain of one answer to each query a round, by that round's model."""
    found: list[Exchange] = []
    more = {"kind": "metav", "view": "full", "protocol_sha256": "0" * 64}
    for number, model in enumerate(rounds):
        for name, query in pack.inputs.items():
            digest, endpoint = query_digest(query), asked.get("endpoint", "http://x")
            request = request_body(
                model="m", endpoint=endpoint, image_sha256=digest, prompt="", max_tokens=0, more=more
            )
            found.append(
                exchange(
                    found[-1].record if found else None,
                    target="x",
                    pack_id=pack.pack_id,
                    round=number,
                    trigger_id=name,
                    control=False,
                    attempt=1,
                    outcome="answer",
                    asked_at=float(len(found)),
                    settled_at=float(len(found)),
                    request=request,
                    response={"text": canonical_json([float(n) for n in model(query)]).decode()},
                )
            )
    return tuple(found)


def test_p_is_of_the_newest_look_and_all_looks_are_stated(case: MetaVCase) -> None:
    """Asking for longer multiplies nothing; a verdict that depends on the moment shows it."""
    policy = MetaVPolicy(alpha=ALPHA)
    copy, other = tiny_metav.stolen(5), tiny_metav.unrelated(5)
    steady = judge_metav(answered(case.pack, [copy] * 12), pack=case.pack, policy=policy)
    assert (len(steady.pvalues), steady.verdict) == (12, "confirmed")
    assert set(steady.pvalues) == {ALPHA}
    assert all(len(places) == 8 for places in steady.used.values()), "the newest eight"
    changed = judge_metav(answered(case.pack, [other] + [copy] * 8), pack=case.pack, policy=policy)
    assert changed.verdict == "confirmed"
    assert changed.numbers()["looks"]["largest_pvalue"] == changed.pvalues[0] > 0.05
    answers = np.stack([other(query) for query in case.pack.inputs.values()])
    alone = judge_metav(answered(case.pack, [other]), pack=case.pack, policy=policy)
    assert alone.score == MetaVScorer(case.pack).score(answers)
    assert judge_metav((), pack=case.pack, policy=policy).verdict == "none"


def test_answers_that_vary_and_a_target_that_moved_are_warned_of(case: MetaVCase, tmp_path: Path) -> None:
    """The watch's own chain and six rounds more; in the first another model answered, or another address."""
    other = tiny_metav.unrelated(3)
    longer = case.exchanges + case.exchanges[QUERIES:] * 6

    def as_it_was(place: int, fields: dict[str, Any]) -> None:
        fields["round"] = place // QUERIES

    def swapped(place: int, fields: dict[str, Any]) -> None:
        as_it_was(place, fields)
        if place < QUERIES:
            numbers = [float(n) for n in other(np.asarray(case.pack.inputs[fields["trigger_id"]]))]
            fields["response"]["raw"]["reply"]["outputs"][0]["data"] = numbers
            fields["response"]["text"] = canonical_json(numbers).decode()

    def moved(place: int, fields: dict[str, Any]) -> None:
        as_it_was(place, fields)
        if place < QUERIES:
            fields["request"] = fields["request"].replace("127.0.0.1", "127.0.0.2")

    for change, said, looks in (
        (as_it_was, None, 8),
        (swapped, "whoever chose the moment chose the p", 8),
        (moved, "not all of one model at one address", 7),
    ):
        bundle = bundled(case, chained(longer, change), tmp_path / change.__name__)
        checked = verify_any_bundle(bundle)
        assert failures(checked) == {}
        assert checked.judgement is not None
        assert checked.judgement.verdict == "confirmed"
        assert bundle.numbers["looks"]["count"] == looks
        assert [said in warning for warning in checked.warnings if said] == ([True] if said else [])


def test_texts_and_base64_are_read_again_by_their_protocol(tmp_path: Path) -> None:
    case = make_metav_case(tmp_path, texts=True)
    for bundle in (case.bundle, read_bundle(case.by_itself)):
        checked = verify_any_bundle(bundle)
        assert failures(checked) == {}
        assert bundle.numbers["verdict"] == "confirmed"
    reply = json.loads(case.exchanges[0].response or "")["raw"]["reply"]
    assert isinstance(reply["data"][0]["embedding"], str), "base64"


def test_committed_packs_are_watched_at_the_committed_level(case: MetaVCase, tmp_path: Path) -> None:
    from probes.config import ConfigError, load_config
    from probes.fingerprints import MetaVFingerprint

    config = load_config(case.config)
    assert MetaVFingerprint.read(config).alpha == ALPHA
    with pytest.raises(ConfigError, match=r"alpha 0.02: .* committed with 0.01; leave alpha out"):
        MetaVFingerprint.read(config.model_copy(update={"alpha": 0.02}))
    build_tiny_metav(tmp_path / "pack")
    with pytest.raises(EvidenceError, match="not committed"):
        MetaVFingerprint.read(config.model_copy(update={"pack": tmp_path / "pack"}))
