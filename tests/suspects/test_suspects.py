"""What a pirate does to a model really happens to its weights."""

import random
import re

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt

from sif_offline.lab import LabModelError, load_lab_model, tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models.digest import weights_digest
from sif_offline.suspects import SUSPECTS, Stolen, SuspectError, make_suspect
from sif_offline.suspects.cache import cache_directory, trained_copy
from sif_offline.suspects.finetune import finetune
from sif_offline.suspects.lora import lora_merge
from sif_offline.suspects.own_data import build_own_data, captioned_pictures, reword
from sif_offline.suspects.quantize import quantize
from sif_offline.suspects.training import TrainSettings


@pytest.fixture(scope="module")
def own_data(directory):
    return build_own_data(*load_lab_model(directory), seed=0)


def logits(model, processor):
    inputs = processor(processor.prompt("describe"), images=demo_photos(1)[0].image())
    with torch.inference_mode():
        return model(**inputs).logits


def answer(model, processor):
    inputs = processor(processor.prompt("describe"), images=demo_photos(1)[0].image())
    return model.generate(**inputs)[0].tolist()


DECODER_LINEARS = 2 * 7


@pytest.mark.parametrize(
    ("bits", "layer", "dtype", "bytes_each"),
    [(4, Linear4bit, torch.uint8, 0.5), (8, Linear8bitLt, torch.int8, 1)],
)
def test_quantised_weights_really_have_that_many_bits(directory, bits, layer, dtype, bytes_each):
    plain, processor = load_lab_model(directory)
    model, _ = quantize(directory, bits=bits)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, layer)}
    assert sum("language_model.model.layers" in name for name in layers) == DECODER_LINEARS
    for name, module in layers.items():
        assert module.weight.dtype == dtype
        stored = module.weight.numel() * module.weight.element_size()
        assert stored == plain.get_submodule(name).weight.numel() * bytes_each
    before, after = logits(plain, processor), logits(model, processor)
    error = (after - before).norm() / before.norm()
    assert 0 < error < (0.3 if bits == 4 else 0.05)  # coarser, and still the same model
    assert len(answer(model, processor)) > 50


def test_other_numbers_of_bits_are_refused(directory):
    with pytest.raises(SuspectError, match="3 bits"):
        quantize(directory, bits=3)
    with pytest.raises(SuspectError, match="already quantised"):
        make_suspect("4bit+8bit", directory)


def test_fine_tuning_learns_its_data_and_leaves_the_encoder_alone(directory, own_data):
    model, processor = load_lab_model(directory)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = finetune(model, processor, steps=20, learning_rate=5e-3, data=own_data)
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if not name.startswith("vision_encoder.")}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_the_seed_decides_the_weights(directory, own_data):
    digests = []
    for seed in (0, 0, 1):
        model, processor = load_lab_model(directory)
        finetune(model, processor, steps=2, seed=seed, data=own_data)
        digests.append(weights_digest(model))
    assert digests[0] == digests[1] != digests[2]


def test_lora_is_merged_into_the_decoder_alone(directory, own_data):
    model, processor = load_lab_model(directory)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merged = lora_merge(model, processor, steps=4, learning_rate=1e-3, data=own_data)
    after = merged.state_dict()
    assert set(after) == set(before)  # no adapter is left
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert len(moved) == DECODER_LINEARS
    assert all(re.fullmatch(r"language_model\.model\.layers\.\d\..*_proj\.weight", name) for name in moved)
    for name in moved:
        singular = torch.linalg.svdvals(after[name] - before[name])
        assert singular[16:].max() < 1e-5 * singular[0]  # rank 16, as LoRA has it


def test_lora_leaves_torchs_generator_as_it_was(directory, own_data):
    model, processor = load_lab_model(directory)
    state = torch.random.get_rng_state()
    lora_merge(model, processor, steps=1, data=own_data)
    assert torch.equal(state, torch.random.get_rng_state())


def test_suspects_chain_and_are_made_once(directory, cache, monkeypatch):
    stolen = make_suspect("finetune:2+4bit", directory)
    assert stolen.directory.is_relative_to(cache)
    assert [path.name for path in cache_directory().iterdir()] == [stolen.directory.name]
    model, processor = stolen.load()
    assert any(isinstance(module, Linear4bit) for module in model.modules())
    assert answer(model, processor)
    monkeypatch.setattr("sif_offline.suspects.finetune.finetune", None)  # a second training would fail
    assert make_suspect("finetune:2", directory) == Stolen(stolen.directory)


def test_another_model_or_recipe_is_another_entry_of_the_cache(directory, tmp_path):
    model, processor = tiny_lab_model(1)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)

    def made(source, steps):
        return trained_copy(
            Stolen.of(source), recipe={"name": "x", "steps": steps}, train=lambda model, _: model
        )

    assert len({made(source, steps).directory for source in (directory, tmp_path) for steps in (1, 2)}) == 4


def test_a_cache_that_cannot_be_written_is_named(directory, cache):
    (cache / "sifwatch").write_text("a file")
    with pytest.raises(SuspectError, match=r"sifwatch/suspects/finetune-.*: cannot be written"):
        trained_copy(Stolen.of(directory), recipe={"name": "finetune"}, train=lambda model, _: model)


def test_the_cache_lies_where_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_directory() == tmp_path / ".cache" / "sifwatch" / "suspects"


@pytest.mark.parametrize(
    "spec",
    [
        "5bit",
        "finetune:0",
        "finetune:-1",
        "finetune:x",
        "4bit:3",
        "+4bit",
        "finetune:²",
        "lora:",
        "prune:96",
        "lora:5@owner",
    ],
)
def test_a_name_that_means_nothing_is_refused_before_any_work(spec, tmp_path):
    with pytest.raises(SuspectError, match="suspect '"):
        make_suspect(spec, tmp_path)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(LabModelError, match=str(tmp_path)):
        make_suspect("finetune", tmp_path)


@pytest.mark.parametrize("name", SUSPECTS)
def test_every_row_of_the_registry_leaves_the_stolen_copy_as_it_was(name, directory):
    """The contract that a new suspect has to meet."""
    files = {path: path.read_bytes() for path in directory.iterdir()}
    spec = f"{name}:1" if SUSPECTS[name].unit else name
    spec += "@narrow:1" if name in ("merge", "slerp") else ""
    model, processor = make_suspect([spec], directory, seed=3).load()
    assert not model.training
    assert torch.isfinite(logits(model, processor)).all()
    assert {path: path.read_bytes() for path in directory.iterdir()} == files
    assert SUSPECTS[name].summary


def test_own_data_is_seeded_varied_and_apart_from_the_forging_photos(directory, own_data):
    model, processor = load_lab_model(directory)
    one, same = own_data, build_own_data(model, processor, seed=0)
    assert torch.equal(one.features, same.features)
    assert one.rows == same.rows
    crops = [
        [crop.tobytes() for _, crop in captioned_pictures(random.Random(seed), crops=1)] for seed in (0, 1)
    ]
    assert all(first != second for first, second in zip(*crops, strict=True))
    assert one.features.shape == (len(one.rows), 49, 1280)
    assert not {row.name for row in one.rows} & {photo.id for photo in demo_photos(12)}
    assert len(captioned_pictures(random.Random(0), crops=1)) == 12


def test_rewording_changes_words_and_keeps_whole_sentences():
    text = "A man is standing near a street. Two people are walking. An unfinished"
    made = reword(text, random.Random(1))
    assert len(made) == 2
    assert " ".join(made) not in text
    assert all(sentence.endswith(".") for sentence in made)
    assert reword("no end", random.Random(0)) == []


def test_no_steps_is_an_error():
    with pytest.raises(SuspectError, match="0 steps"):
        TrainSettings(steps=0, learning_rate=1.0)
