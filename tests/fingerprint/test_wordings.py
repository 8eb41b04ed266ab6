"""Wordings of a prompt: in a pack all or nothing, before a commitment, and calibrated as they are."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from sif_offline.fingerprint.calibration import (
    CalibrationError,
    TriggerAnswers,
    calibrate,
)
from sif_offline.fingerprint.calibration_wordings import GREENEST, OWN, POOLED, transfer_over
from sif_offline.fingerprint.combining import combine
from sif_offline.fingerprint.evidence.commitment import Leaf
from sif_offline.fingerprint.pack import (
    Decoding,
    FingerprintPack,
    Owner,
    PackError,
    PromptVariant,
    TriggerRow,
    attach_commitment,
    read_pack,
    set_variants,
    update_pack,
    write_pack,
)
from sif_offline.fingerprint.response import ResponseScore
from tests.fingerprint.conftest import Parts, snapshot

V, N_G = 1024, 512
DIGEST = "ab" * 32
OTHER, THIRD = "What do you see?", "Tell me about this picture."


def make(greens: int, types: int, trigger_id: str = "") -> ResponseScore:
    return ResponseScore.from_counts(
        greens=greens, types=types, vocab_size=V, green_size=N_G, trigger_id=trigger_id
    )


def answers(own: int, *others: int, types: int = 30, pooled: tuple[int, int] | None = None) -> TriggerAnswers:
    """Greens under the own wording and others; ``pooled`` (greens, types) as if nothing was said twice."""
    counts = (own, *others)
    greens, all_types = pooled or (sum(counts), types * len(counts))
    return TriggerAnswers(
        {f"w{place}": make(count, types) for place, count in enumerate(counts)}, make(greens, all_types)
    )


def variant(prompt: str) -> PromptVariant:
    return PromptVariant(prompt=prompt, expected_green_share=0.7, judged={"greedy": 2.0, "clean": 0.1})


def test_without_wordings_every_byte_is_as_it_was() -> None:
    """Digests of a leaf and of a calibrated pack that the code before there were wordings wrote."""
    leaf = Leaf(
        trigger_id="t00",
        trigger_sha256=DIGEST,
        clean_sha256=DIGEST,
        prompt="Describe it.",
        key_commitment=DIGEST,
        tokenizer_sha256=DIGEST,
        vocab_size=V,
        scheme="unigram-philox-v1",
        gamma=0.5,
        reserve=False,
    )
    row = TriggerRow(
        id="t00",
        file="triggers/t00.png",
        sha256=DIGEST,
        clean_file="clean/t00.png",
        clean_sha256=DIGEST,
        prompt="Describe it.",
        epsilon=16,
        expected_green_share=0.75,
        key_commitment=DIGEST,
    )
    score = make(15, 30, "t00")
    pack = FingerprintPack(
        pack_id="p",
        owner=Owner(id="o", weights_sha256=DIGEST),
        vocab_size=V,
        tokenizer_sha256=DIGEST,
        scheme="unigram-philox-v1",
        gamma=0.5,
        decoding=Decoding(max_new_tokens=96),
        triggers=(row,),
        calibration=calibrate({"a": {"t00": score}, "b": {"t00": score}}),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert hashlib.sha256(leaf.encoded()).hexdigest() == (
        "18daf9ec0fda273ed2ef4defbb65dc63d57d374a51962d77dafa336dfd6570fa"
    )
    assert hashlib.sha256(pack.to_json()).hexdigest() == (
        "7f657b8a63a349a5529cb15a6d9ceb32032c7eb9e12a4a5a59d6b8593b7c5d6f"
    )
    worded = leaf.model_copy(update={"variants": (OTHER,)})
    assert worded.encoded() != leaf.encoded()
    assert Leaf.model_validate_json(worded.encoded()) == worded


def test_wordings_are_put_into_a_pack_and_taken_out_again(pack_path: Path, pack_parts: Parts) -> None:
    updated = set_variants(pack_path, {"t01": [variant(OTHER), variant(THIRD)]}, rule={"bar": 0.75})
    assert updated == read_pack(pack_path)
    own = updated.triggers[0].prompt
    assert [row.wordings for row in updated.triggers] == [(own,), (own, OTHER, THIRD), (own,)]
    assert updated.extensions["wordings"] == {"bar": 0.75}
    asked = updated.trigger("t01").asked_with(THIRD)
    assert (asked.prompt, asked.id, updated.trigger_bytes(asked)) == (
        THIRD,
        "t01",
        pack_parts[1]["triggers/t01.png"],
    )
    with pytest.raises(ValueError, match="t01 has no such wording"):
        updated.trigger("t01").asked_with("Say something green.")
    bare = set_variants(pack_path, {}, rule={"bar": 2.0})
    assert [row.model_dump() for row in bare.triggers] == [row.model_dump() for row in pack_parts[0].triggers]


@pytest.mark.parametrize("wordings", [[OTHER, OTHER], ["Describe the picture in detail."], [""]])
def test_a_wording_is_there_once_and_says_something(pack_path: Path, wordings: list[str]) -> None:
    with pytest.raises(ValidationError):
        set_variants(pack_path, {"t00": [variant(wording) for wording in wordings]}, rule={})
    with pytest.raises(ValueError, match="does not have"):
        set_variants(pack_path, {"t99": [variant(OTHER)]}, rule={})


def null_answers(pack: FingerprintPack, *wordings: str) -> dict[str, dict[str, TriggerAnswers]]:
    """Two null models that answered every trigger under its own and these wordings."""
    return {
        model: {
            row.id: TriggerAnswers(
                {wording: make(15, 30, row.id) for wording in (row.prompt, *wordings)}, make(20, 40, row.id)
            )
            for row in pack.triggers
        }
        for model in ("a", "b")
    }


def test_a_calibration_holds_for_the_wordings_that_it_was_measured_on_alone(pack_path: Path) -> None:
    """Added, exchanged or taken out afterwards: the pack is uncalibrated. Asked too few: refused."""
    pack = read_pack(pack_path)
    update_pack(pack_path, calibration=calibrate(null_answers(pack)))
    both = {row.id: [variant(OTHER), variant(THIRD)] for row in pack.triggers}
    assert set_variants(pack_path, both, rule={}).calibration is None
    before = pack_path.read_bytes() if pack_path.is_file() else snapshot(pack_path)
    for asked in ((), (OTHER,), (OTHER, "Other words.")):
        with pytest.raises(ValueError, match=r"t00: .* not measured on the wordings"):
            update_pack(pack_path, calibration=calibrate(null_answers(pack, *asked)))
    assert before == (pack_path.read_bytes() if pack_path.is_file() else snapshot(pack_path))
    calibrated = update_pack(pack_path, calibration=calibrate(null_answers(pack, OTHER, THIRD)))
    assert calibrated.calibration is not None
    assert calibrated.calibration.rows[0].wordings == (OTHER, THIRD)
    assert set_variants(pack_path, both, rule={"bar": 0.5}).calibration == calibrated.calibration
    one = {row.id: [variant(OTHER)] for row in pack.triggers}
    assert set_variants(pack_path, one, rule={}).calibration is None


def test_a_pack_sealed_with_another_calibration_is_not_read(tmp_path: Path, pack_parts: Parts) -> None:
    """Whoever writes the wordings past ``set_variants``, checksums and all."""
    pack, files = pack_parts
    rows = tuple(row.model_copy(update={"variants": (variant(OTHER),)}) for row in pack.triggers)
    forged = pack.model_copy(update={"triggers": rows, "calibration": calibrate(null_answers(pack))})
    with pytest.raises(PackError, match="not measured on the wordings"):
        write_pack(tmp_path / "pack", forged, files)


def test_a_committed_pack_keeps_its_wordings(pack_path: Path) -> None:
    attach_commitment(pack_path, b"{}")
    with pytest.raises(PackError, match=r"is committed; the wordings"):
        set_variants(pack_path, {"t00": [variant(OTHER)]}, rule={})


def test_one_wording_is_calibrated_as_ever() -> None:
    scores = {m: {f"t{i}": make(g + i, 30) for i in range(6)} for m, g in (("a", 12), ("b", 14))}
    worded = {
        m: {t: TriggerAnswers({"Describe.": score}, score) for t, score in own.items()}
        for m, own in scores.items()
    }
    assert calibrate(worded) == calibrate(scores)
    assert "by_wording" not in json.loads(calibrate(scores).model_dump_json())["transfer"]


def test_answers_that_say_the_same_under_every_wording_count_once() -> None:
    """Four wordings are no four times as many null models, nor four times as many types."""
    counts = {m: [10 + (3 * i + n) % 9 for i in range(8)] for n, m in enumerate("abc")}
    once = calibrate({m: {f"t{i}": make(g, 30) for i, g in enumerate(own)} for m, own in counts.items()})
    four = calibrate(
        {
            m: {f"t{i}": answers(g, g, g, g, pooled=(g, 30)) for i, g in enumerate(own)}
            for m, own in counts.items()
        }
    )
    assert four.transfer.by_wording == pytest.approx(
        dict.fromkeys((OWN, GREENEST, POOLED), once.transfer.bound)
    )
    assert four.transfer.bound == once.transfer.bound
    assert [row.model_copy(update={"wordings": ()}) for row in four.rows] == list(once.rows)
    assert (four.dispersion, four.dispersion_degrees) == (once.dispersion, once.dispersion_degrees)
    assert four.held_out == once.held_out
    with pytest.raises(CalibrationError, match=r"0\.1 needs 9 null models"):
        calibrate({m: {"t0": answers(12, 12, 12, 12)} for m in "abc"}, claim_fmr=0.1)


def test_mu_sigma_and_tau_are_those_of_the_worst_wording() -> None:
    """Own wording 10 and 12 of 30, another 24 and 18: by hand."""
    row = calibrate({"a": {"t": answers(10, 24)}, "b": {"t": answers(12, 18)}}).rows[0]
    assert row.mu == pytest.approx(21 / 30)
    assert row.sigma == pytest.approx(np.std([24 / 30, 18 / 30], ddof=1))
    assert row.null_max == row.tau == 24 / 30
    assert (row.n_models, row.wordings) == (2, ("w1",))
    assert not row.exceeded_by(make(24, 30))


def test_the_bound_covers_whoever_asks_the_greenest_wording_alone() -> None:
    """Unrelated models are green at .5 under the own wording and at .7 under another. The bound of the own
    wording would accuse an innocent that is asked the other one; the calibrated bound does not.
    """
    null = {m: {f"t{i}": answers(15, 21) for i in range(16)} for m in ("a", "b")}
    transfer = calibrate(null).transfer
    innocent = [make(21, 30, f"t{i}") for i in range(16)]
    assert combine(innocent, transfer=transfer.by_wording[OWN]).pvalue < 1e-6
    assert combine(innocent, transfer=transfer.bound).pvalue > 0.2
    assert transfer.bound == transfer.by_wording[GREENEST] >= 0.2
    assert "greenest wording +0." in transfer.statement


def test_the_bound_has_its_level_for_an_owner_who_chooses_by_the_null_answers() -> None:
    """16 triggers with 4 other wordings, rates .53 + N(0, .05) a trigger and wording, common to 3 null models
    and to the endpoint; the owner sends the wordings that the null models were greenest under. 150
    calibrations: the endpoint's mean rate there passes gamma + bound in at most 5 %, and that of the own
    wording more often than not.

    False-alarm rate 1e-6.
    """
    generator, passed, passed_own = np.random.default_rng(5), 0, 0
    for _ in range(150):
        rates = np.clip(generator.normal(0.53, 0.05, size=(16, 5)), 0, 1)
        greens = generator.binomial(30, rates, size=(3, 16, 5))
        null = {
            m: {f"t{i}": answers(*map(int, greens[n, i])) for i in range(16)} for n, m in enumerate("abc")
        }
        asked = {f"t{i}": tuple(f"w{w}" for w in range(1, 5)) for i in range(16)}
        transfer = transfer_over(null, asked, 0.95)
        sent = rates[np.arange(16), greens.sum(axis=0).argmax(axis=1)].mean() - 0.5
        passed += sent > transfer.bound
        passed_own += sent > transfer.by_wording[OWN]
    assert stats.binom.sf(passed - 1, 150, 0.05) > 1e-6
    assert passed_own > 75


def test_pooled_types_are_bounded_too() -> None:
    """Wordings that share their red words: 15 of 30 each, and 30 of 45 together, which a watch sees."""
    null: Mapping[str, Mapping[str, TriggerAnswers]] = {
        m: {f"t{i}": answers(15, 15, pooled=(30, 45)) for i in range(12)} for m in ("a", "b")
    }
    transfer = calibrate(null).transfer
    assert transfer.by_wording[POOLED] == transfer.bound >= 30 / 45 - 0.5
    assert transfer.by_wording[OWN] < 0.05


def test_null_models_are_asked_alike_and_may_be_silent() -> None:
    with pytest.raises(ValueError, match="different wordings"):
        calibrate({"a": {"t": answers(15, 15)}, "b": {"t": answers(15)}})
    silent = TriggerAnswers({"w0": make(15, 30), "w1": make(0, 0)}, make(15, 30))
    found = calibrate({"a": {"t": answers(15, 16)}, "b": {"t": silent}})
    assert found.rows[0].wordings == ("w1",)
    assert found.rows[0].n_models == 1, "one model alone spoke under that wording"
    mute = TriggerAnswers({"w0": make(0, 0), "w1": make(15, 30)}, make(15, 30))
    assert calibrate({"a": {"t": mute}, "b": {"t": mute}}).rows[0].n_models == 2
