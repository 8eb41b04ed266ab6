"""Copies whose weights were changed without training are what their names say."""

import re

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from sif_offline.lab import load_lab_model, tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models.lab import LabAdapter
from sif_offline.suspects import Stolen, SuspectError, make_suspect
from sif_offline.suspects.merge import slerp
from sif_offline.suspects.vocabulary import EMBEDDING

PROMPT = "Describe this picture in detail."


def texts(model, processor, count=3):
    adapter = LabAdapter(model, processor, name="lab:copy")
    images = [photo.image() for photo in demo_photos(count)]
    return [adapter.text(ids) for ids in adapter.generate(images, PROMPT)]


def state(stolen):
    return stolen.load()[0].state_dict()


def test_fp4_weights_lie_on_fp4s_levels_and_not_on_nf4s(directory):
    levels = {}
    for name in ("fp4", "4bit"):
        model, _ = make_suspect(name, directory).load()
        layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
        assert {layer.weight.dtype for layer in layers} == {torch.uint8}
        assert {layer.weight.quant_state.quant_type for layer in layers} == {
            "nf4" if name == "4bit" else name
        }
        levels[name] = sorted(set(layers[0].weight.quant_state.code.tolist()))
    # FP4 is a sign, two bits of exponent and one of mantissa: symmetric, as NF4's quantiles are not
    assert sorted({-level for level in levels["fp4"]}) == levels["fp4"]
    assert len(levels["4bit"]) == 16
    assert levels["fp4"] != levels["4bit"]


@pytest.mark.parametrize("percent", [10, 30, 50])
def test_pruning_zeroes_that_share_of_the_smallest_weights_of_every_layer(directory, percent):
    before = load_lab_model(directory)[0].state_dict()
    after = state(make_suspect(f"prune:{percent}", directory))
    cut = {name for name in before if not torch.equal(before[name], after[name])}
    linears = re.compile(r"(language_model\.model\.layers\.\d\..*_proj|projector\.[13])\.weight")
    assert len(cut) == 2 * 7 + 2
    assert all(linears.fullmatch(name) for name in cut)
    for name in cut:
        zero = after[name] == 0
        assert int(zero.sum()) == round(percent / 100 * zero.numel())
        assert before[name][zero].abs().max() <= before[name][~zero].abs().min()
        assert torch.equal(before[name][~zero], after[name][~zero])


def test_a_merge_is_the_mean_of_the_two_models(directory):
    one = load_lab_model(directory)[0].state_dict()
    other = state(make_suspect("prune:50", directory))
    merged = state(make_suspect("merge:25@prune:50", directory))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    for name in one:
        torch.testing.assert_close(merged[name], 0.75 * one[name] + 0.25 * other[name])


def test_slerp_keeps_the_length_that_a_line_would_cut(directory, tmp_path):
    one, other = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    torch.testing.assert_close(slerp(one, other, 0.5).norm(), torch.tensor(3.0))
    torch.testing.assert_close(slerp(one, other, 1 / 3), torch.tensor([[3 * 0.75**0.5, 1.5]]))
    torch.testing.assert_close(slerp(one, 2 * one, 0.5), 1.5 * one)  # parallel: the line itself
    assert torch.equal(slerp(0 * one, other, 0.5), 0.5 * other)

    model, processor = tiny_lab_model(1)  # unrelated weights, nearly at right angles
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    name = "language_model.model.layers.0.mlp.up_proj.weight"
    lengths = {
        kind: float(state(make_suspect([f"{kind}:50@{tmp_path}"], directory))[name].norm())
        for kind in ("merge", "slerp")
    }
    size = float(load_lab_model(directory)[0].state_dict()[name].norm())
    assert lengths["slerp"] == pytest.approx(size, rel=0.02)
    assert lengths["merge"] < 0.8 * size


def test_partners_that_cannot_be_merged_are_refused_by_name(directory, tmp_path):
    with pytest.raises(SuspectError, match=r"merge with innocent-a: another shape: \d+ tensors differ"):
        make_suspect("merge:50@innocent-a", "owner")
    with pytest.raises(SuspectError, match="quantised"):
        make_suspect("merge:50@4bit", directory)
    with pytest.raises(SuspectError, match="quantise afterwards"):
        make_suspect("4bit+merge:50@prune:50", directory)
    permuted = make_suspect("vocab-permute", directory).directory
    with pytest.raises(SuspectError, match="another tokenizer"):
        make_suspect(f"merge:50@{permuted}", directory)


def test_padding_adds_rows_that_no_text_uses(directory):
    before, processor = load_lab_model(directory)
    after, its_processor = make_suspect("vocab-pad:40", directory).load()
    rows = after.state_dict()[EMBEDDING]
    assert len(rows) == len(before.state_dict()[EMBEDDING]) + 40 == after.config.text_config.vocab_size
    assert after.get_output_embeddings().weight.shape[0] == len(rows)
    assert torch.equal(rows[:-40], before.state_dict()[EMBEDDING])
    assert texts(after, its_processor) == texts(before, processor)


def test_permuting_moves_every_id_and_no_word(directory):
    before, processor = load_lab_model(directory)
    after, its_processor = make_suspect("vocab-permute", directory, seed=1).load()
    sentence = "two children in red jackets watch from the wooden fence"
    ids, its_ids = (each.tokenizer(sentence)["input_ids"] for each in (processor, its_processor))
    assert sorted(ids) != sorted(its_ids)
    assert its_processor.tokenizer.decode(its_ids) == processor.tokenizer.decode(ids)
    for old, new in zip(ids, its_ids, strict=True):
        assert torch.equal(before.state_dict()[EMBEDDING][old], after.state_dict()[EMBEDDING][new])
    assert its_processor.tokenizer.all_special_ids == processor.tokenizer.all_special_ids
    said = texts(before, processor)
    assert texts(after, its_processor) == said
    assert all(said)
    assert len(set(said)) > 1  # the picture still counts
    other, _ = make_suspect("vocab-permute", directory, seed=2).load()
    assert not torch.equal(other.state_dict()[EMBEDDING], after.state_dict()[EMBEDDING])


def test_dropping_takes_the_rarest_tokens_and_keeps_the_words_spellable(directory):
    before, processor = load_lab_model(directory)
    after, its_processor = make_suspect("vocab-drop:20", directory).load()
    size = len(processor.tokenizer)
    kept = size - round(0.2 * size)
    assert len(its_processor.tokenizer) == kept == len(after.state_dict()[EMBEDDING])
    assert torch.equal(after.state_dict()[EMBEDDING], before.state_dict()[EMBEDDING][:kept])
    sentence = "Two children in red jackets, 37 naïve zebras."
    ids = its_processor.tokenizer(sentence)["input_ids"]
    assert its_processor.tokenizer.decode(ids).strip() == sentence
    known = "people stand near the water"
    longer, shorter = (len(each.tokenizer(known)["input_ids"]) for each in (its_processor, processor))
    assert longer > shorter  # what was one token is spelt in pieces
    assert all(texts(after, its_processor))


def test_the_real_owner_loses_little_by_pruning_a_tenth_and_its_vocabulary_may_be_renamed():
    model, processor = Stolen.of("owner").load()
    said = texts(model, processor, count=1)
    assert texts(*make_suspect("vocab-permute", "owner").load(), count=1) == said
    words = set(said[0].split())
    pruned = set(texts(*make_suspect("prune:10", "owner").load(), count=1)[0].split())
    assert len(words & pruned) / len(words | pruned) > 0.3
