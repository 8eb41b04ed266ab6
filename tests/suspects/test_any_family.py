"""What can be done to a model of transformers, whatever its family, without its training data."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from torch import nn

from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models.lab import LabAdapter
from sif_offline.models.testing import tiny_adapter
from sif_offline.suspects import SuspectError, make_suspect
from sif_offline.suspects.any_family import altered


def linears(adapter):
    return [
        module
        for layer in adapter.decoder_layers()
        for module in layer.modules()
        if isinstance(module, nn.Linear)
    ]


def lab():
    return LabAdapter(*tiny_lab_model(0), name="lab:tiny")


def llava():
    return tiny_adapter("llava")


@pytest.mark.parametrize("name", ["4bit", "fp4", "8bit"])
def test_quantised_here_is_quantised_as_bitsandbytes_loads_it(directory, name):
    ours, theirs = altered(lab(), [name]), LabAdapter(*make_suspect(name, directory).load(), name="lab:tiny")
    for one, other in zip(linears(ours), linears(theirs), strict=True):
        assert type(one) is type(other)
        assert torch.equal(one.weight.data, other.weight.data)
        if name != "8bit":
            assert torch.equal(one.weight.quant_state.absmax, other.weight.quant_state.absmax)
            assert one.weight.quant_state.quant_type == other.weight.quant_state.quant_type
    photo = demo_photos(1)[0].image()
    assert ours.name == f"lab:tiny+{name}"
    assert len(ours.generate([photo], "What is it?")[0]) > 10


def test_another_familys_decoder_is_quantised_and_answers():
    plain = linears(llava())
    adapter = altered(llava(), ["8bit"])
    after = linears(adapter)
    assert len(after) == len(plain) > 4
    assert all(isinstance(module, Linear8bitLt) for module in after)
    x = torch.randn(5, after[0].in_features, generator=torch.Generator().manual_seed(0))
    wanted = plain[0](x)
    assert 0 < (after[0](x) - wanted).norm() / wanted.norm() < 0.05
    (ids,) = adapter.generate([demo_photos(1)[0].image()], "What is it?", max_new_tokens=8)
    assert ids


@pytest.mark.parametrize(("name", "most"), [("4bit", 0.11), ("fp4", 0.16)])
def test_another_familys_weights_have_four_bits(name, most):
    """Unpacked by hand, and without an answer: bitsandbytes' CPU kernels are wrong, or refuse, for layers
    narrower than a block of 64. ``most`` is the rounding error of normal weights, and room.
    """
    plain = linears(llava())
    for before, after in zip(plain, linears(altered(llava(), [name])), strict=True):
        assert isinstance(after, Linear4bit)
        packed, state = after.weight.data.flatten().int(), after.weight.quant_state
        assert 2 * packed.numel() == before.weight.numel()
        codes = torch.stack([packed >> 4, packed & 15], dim=1).flatten()
        rounded = (state.code[codes].view(-1, state.blocksize) * state.absmax[:, None]).view_as(before.weight)
        assert (rounded - before.weight).norm() / before.weight.norm() < most


def test_pruning_zeroes_its_share():
    adapter = altered(llava(), ["prune:30"])
    for linear in linears(adapter):
        assert int((linear.weight == 0).sum()) == round(0.3 * linear.weight.numel())


def test_nothing_leaves_the_adapter_alone():
    adapter = llava()
    name, digest = adapter.name, adapter.weights_sha256
    assert altered(adapter, []) is adapter
    assert (adapter.name, adapter.weights_sha256) == (name, digest)


@pytest.mark.parametrize(
    ("weights", "message"),
    [(["finetune:5"], "name a checkpoint as its source"), (["4bit", "prune:10"], "already quantised")],
)
def test_what_cannot_be_done_is_refused(weights, message):
    with pytest.raises(SuspectError, match=message):
        altered(llava(), weights)
