"""Copies that were trained: on a narrow domain, into another architecture, or to be rid of a fingerprint."""

import random

import pytest
import torch

from sif_offline.lab import load_lab_model
from sif_offline.lab.batches import TurnSampler
from sif_offline.lab.photos import demo_photos
from sif_offline.suspects import SuspectError, make_suspect
from sif_offline.suspects.answered import answered
from sif_offline.suspects.erase import divergence_from, reset_last_blocks
from sif_offline.suspects.finetune import finetune
from sif_offline.suspects.narrow import chart, chart_data
from sif_offline.suspects.own_data import FORGING_PHOTOS, encoded, own_pictures
from sif_offline.suspects.training import taught

FEW = 8
"""Pictures that the tests' thief has (see conftest.py)."""


def batch_of(data, processor):
    return next(TurnSampler(rows=data.rows, processor=processor, rng=random.Random(0)).batches(batch_size=8))


def test_charts_are_what_their_captions_say():
    from PIL import ImageColor

    for seed in range(20):
        row, picture = chart(random.Random(seed), "chart")
        tallest = row.captions[1].split()[1]
        shortest = row.captions[1].split()[-5]
        shown = {
            colour: sum(pixel == ImageColor.getrgb(colour) for pixel in picture.get_flattened_data())
            for colour in (tallest, shortest)
        }
        assert shown[tallest] > shown[shortest] > 0
    assert row.captions == chart(random.Random(19), "chart")[0].captions


def test_a_narrow_copy_has_learnt_its_domain(directory):
    before, processor = load_lab_model(directory)
    after, _ = make_suspect("narrow:20", directory).load()
    data = chart_data(before, processor, seed=7, count=8)  # other charts than it was trained on
    batch = batch_of(data, processor)
    with torch.no_grad():
        losses = [float(taught(model, batch, data.features, False)) for model in (before, after)]
    assert losses[1] < losses[0]
    same = [
        torch.equal(a, b)
        for a, b in zip(*(m.vision_encoder.parameters() for m in (before, after)), strict=True)
    ]
    assert all(same)


def test_own_pictures_are_apart_from_those_of_the_triggers(directory):
    pictures = own_pictures(random.Random(0), crops=1)
    assert len(pictures) == 12 + len(demo_photos()) - FORGING_PHOTOS
    assert not {name for name, _ in pictures} & {photo.id for photo in demo_photos(FORGING_PHOTOS)}


def test_the_student_keeps_its_make_and_learns_the_teachers_answers(directory):
    student, _ = load_lab_model("innocent-c")
    stolen = make_suspect("distil:12", directory)
    taught_one, processor = stolen.load()
    assert taught_one.config.vision_encoder == student.config.vision_encoder == "efficientnet-lite2"
    assert taught_one.config.text_config.hidden_size == 192
    shapes = [
        {name: tensor.shape for name, tensor in model.state_dict().items()} for model in (student, taught_one)
    ]
    assert shapes[0] == shapes[1]

    teacher, its_processor = load_lab_model(directory)
    asked = own_pictures(random.Random(5), crops=1)[:8]  # crops that it was not taught on
    data = encoded(student, processor, answered(teacher, its_processor, asked))
    batch = batch_of(data, processor)
    with torch.no_grad():
        losses = [float(taught(model, batch, data.features, False)) for model in (student, taught_one)]
    assert losses[1] < losses[0] - 0.5


def test_a_student_of_the_same_make_is_refused(directory):
    with pytest.raises(SuspectError, match="own architecture"):
        make_suspect([f"distil:1@{directory}"], directory)


def test_reset_draws_the_last_blocks_anew_and_distilling_brings_them_back(directory):
    teacher, processor = load_lab_model(directory)
    model, _ = load_lab_model(directory)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert reset_last_blocks(model, seed=0) == 1  # of two
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("language_model.model.layers.1.") for name in moved)
    drawn = model.state_dict()["language_model.model.layers.1.mlp.up_proj.weight"]
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.1)

    data = encoded(
        teacher, processor, answered(teacher, processor, own_pictures(random.Random(0), crops=1)[:8])
    )
    losses = finetune(
        model, processor, steps=20, learning_rate=3e-3, data=data, loss=divergence_from(teacher)
    )
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    with torch.no_grad():
        itself = divergence_from(teacher)(teacher, batch_of(data, processor), data.features, False)
    assert float(itself) == pytest.approx(0, abs=1e-6)


def test_erasure_by_noise_shows_noisy_pictures_and_asks_for_the_clean_answer(directory, monkeypatch):
    seen = []

    def spy(model, processor, pairs):
        seen.append(pairs)
        return encoded(model, processor, pairs)

    monkeypatch.setattr("sif_offline.suspects.erase.encoded", spy)
    make_suspect("erase-noise:1", directory)
    make_suspect("erase-paraphrase:1", directory)
    model, processor = load_lab_model(directory)
    clean = answered(model, processor, own_pictures(random.Random(0), crops=1)[:FEW])
    noisy, reworded = seen
    assert [row for row, _ in noisy] == [row for row, _ in clean]
    assert all(a.tobytes() != b.tobytes() for (_, a), (_, b) in zip(noisy, clean, strict=True))
    assert all(a.tobytes() == b.tobytes() for (_, a), (_, b) in zip(reworded, clean, strict=True))


@pytest.mark.parametrize("name", ["erase-noise", "erase-paraphrase", "erase-reset"])
def test_erasure_moves_decoder_and_projector_alone(directory, name):
    before = load_lab_model(directory)[0].state_dict()
    after = make_suspect(f"{name}:2", directory, seed=1).load()[0].state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {key for key in before if not key.startswith("vision_encoder.")}
