"""Wordings: those nearly as good as the trigger's own are kept, by what the owner answers to the files."""

import shutil
from pathlib import Path

import pytest

from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.keys import DEMO_SECRET, derive_pack_keys
from sif_offline.fingerprint.pack import PackError, TriggerRow, attach_commitment, read_pack
from sif_offline.fingerprint.response import ResponseScore
from sif_offline.fingerprint.scoring import PackScorer
from sif_offline.forging.nulls import Questions, null_scores
from sif_offline.forging.pipeline import forge_pack
from sif_offline.forging.pixels import Photo
from sif_offline.forging.settings import ForgeSettings, SettingsError
from sif_offline.forging.variants import Said, add_variants, allowed, hear
from sif_offline.forging.wordings import VariantRule, list_names, load_wordings
from sif_offline.forging.workdir import ForgeError
from sif_offline.lab import tiny_lab_model
from sif_offline.models.lab import LabAdapter

WORDINGS = ("What do you see?", "Tell me about this photo.", "Walk me through it.")
DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def forged(adapter: LabAdapter, photos: list[Photo], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of two triggers, hardly forged."""
    settings = ForgeSettings(
        steps=1, batch_size=2, teacher_draws=1, min_tokens=1, min_types=1, autocast=False, rfo=False
    ).model_copy(update={"judge_copies": 0, "refine_rounds": 0})
    out = tmp_path_factory.mktemp("forged") / "pack"
    forge_pack(adapter, photos=photos[:2], secret=DEMO_SECRET, settings=settings, out=out)
    return out


@pytest.fixture
def pack_path(forged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(forged, tmp_path / "pack"))


def scorer_of(path: Path) -> PackScorer:
    pack = read_pack(path)
    return PackScorer(pack, derive_pack_keys(DEMO_SECRET, pack))


def score(greens: int) -> ResponseScore:
    return ResponseScore.from_counts(greens=greens, types=32, vocab_size=4096, green_size=2048)


def row(prompt: str = "own") -> TriggerRow:
    return TriggerRow(
        id="t",
        file="triggers/t.png",
        sha256=DIGEST,
        clean_file="clean/t.png",
        clean_sha256=DIGEST,
        prompt=prompt,
        epsilon=16,
        expected_green_share=0.7,
        key_commitment=DIGEST,
    )


def test_the_bar_is_relative_to_the_own_wording_and_the_clean_photo_counts_against() -> None:
    """z is about (2G - 32)/sqrt(32): 24 greens, clean photo at chance: worth 2.83, bar 2.12."""
    said = {
        "own": Said(score(24), score(16)),
        "better": Said(score(26), score(16)),
        "as good": Said(score(22), score(16)),
        "lucky key": Said(score(24), score(24)),
        "weak": Said(score(21), score(16)),
        "equal": Said(score(26), score(16)),
    }
    tried = tuple(said)
    kept = allowed(row(), said, VariantRule(wordings=tried))
    assert [variant.prompt for variant in kept] == ["better", "equal", "as good"]
    assert kept[0].expected_green_share == 26 / 32
    assert kept[0].judged == {"greedy": said["better"].score.z, "clean": 0.0}
    assert [v.prompt for v in allowed(row(), said, VariantRule(wordings=tried, most=1))] == ["better"]
    assert [v.prompt for v in allowed(row(), said, VariantRule(wordings=tried, bar=0.5))] == [
        "better",
        "equal",
        "as good",
        "weak",
    ]
    assert allowed(row(), said, VariantRule(wordings=tried, bar=2.0)) == ()


def test_a_wording_that_is_worth_nothing_is_never_kept() -> None:
    """Where the own wording is worth less than nothing, three quarters of it is no bar."""
    said = {"own": Said(score(14), score(16)), "as bad": Said(score(15), score(16))}
    assert allowed(row(), said, VariantRule(wordings=("as bad",))) == ()


def test_what_is_kept_is_what_the_owner_answers_to_the_files(pack_path: Path, adapter: LabAdapter) -> None:
    scorer, rule = scorer_of(pack_path), VariantRule(wordings=WORDINGS, bar=0.0)
    steps: list[tuple[int, int]] = []
    pack, heard = add_variants(
        pack_path, adapter, scorer, rule, on_progress=lambda done, total: steps.append((done, total))
    )
    assert steps[-1] == (16, 16), "two triggers and two clean photos under four wordings"
    assert pack == read_pack(pack_path)
    assert pack.extensions["wordings"] == {"wordings": list(WORDINGS), "bar": 0.0, "most": 4}
    assert pack.extensions["forge_job"] == scorer.pack.extensions["forge_job"]
    for trigger in pack.triggers:
        image = decode_image(pack.trigger_bytes(trigger), name="t")
        for wording in (trigger.prompt, *WORDINGS):
            (ids,) = adapter.generate([image], wording, max_new_tokens=pack.decoding.max_new_tokens)
            assert heard[trigger.id][wording].score == scorer.score(trigger.id, adapter.text(ids))
        assert trigger.variants == allowed(trigger, heard[trigger.id], rule)


def test_null_models_answer_every_wording(pack_path: Path, adapter: LabAdapter) -> None:
    rule = VariantRule(wordings=WORDINGS, bar=0.0, most=2)
    pack, _ = add_variants(pack_path, adapter, scorer_of(pack_path), rule)
    scorer = scorer_of(pack_path)
    model, processor = tiny_lab_model(1)
    found = null_scores(LabAdapter(model, processor, name="lab:null"), scorer, Questions.of_pack(pack))
    assert list(found) == [trigger.id for trigger in pack.triggers]
    for trigger in pack.triggers:
        answers = found[trigger.id]
        assert tuple(answers.scores) == trigger.wordings
        assert answers.pooled.types >= max(single.types for single in answers.scores.values())
        assert answers.pooled.types <= sum(single.types for single in answers.scores.values())


def test_only_the_owner_judges_and_only_before_a_commitment(pack_path: Path, adapter: LabAdapter) -> None:
    model, processor = tiny_lab_model(1)
    other = LabAdapter(model, processor, name="lab:other")
    rule = VariantRule(wordings=WORDINGS)
    with pytest.raises(ForgeError, match="lab:other: is not the owner"):
        hear(other, scorer_of(pack_path), WORDINGS)
    attach_commitment(pack_path, b"{}")
    with pytest.raises(PackError, match="is committed"):
        add_variants(pack_path, adapter, scorer_of(pack_path), rule)


def test_lists_of_wordings(tmp_path: Path) -> None:
    assert "describe" in list_names()
    shipped = load_wordings("describe")
    assert len(shipped) == len(set(shipped)) == 12
    assert ForgeSettings().prompts[0] not in shipped
    own = tmp_path / "own.yaml"
    own.write_text("wordings: [' One. ', Two., One.]\n")
    assert load_wordings(str(own)) == ("One.", "Two.")
    for text, said in (
        ("wordings: []", "at least 1"),
        ("wordings: ['']", "1 to 2000 characters"),
        ("prompts: [a]", "wordings"),
        ("wordings: [{a: 1}]", "wordings.0"),
        ("a: [", "not YAML"),
    ):
        own.write_text(text)
        with pytest.raises(SettingsError, match=said):
            load_wordings(str(own))
    with pytest.raises(SettingsError, match="neither a file to read nor one of describe"):
        load_wordings(str(tmp_path / "nothing.yaml"))
