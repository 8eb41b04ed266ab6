"""PLA's weights: they learn, in float32, against the target, and are the model's own again."""

from typing import Any

import pytest
import torch

from sif_offline.baselines import BaselineError, Target, make_method
from sif_offline.baselines.pla import resisting
from sif_offline.baselines.targeted import TargetLoss
from sif_offline.forging.pixels import pixel_tensor
from sif_offline.models.digest import weights_digest
from sif_offline.models.testing import tiny_adapter
from sif_offline.models.testing.photos import photo

TARGET = Target(question="Describe it.", answer="A dog runs.", keywords=("dog",))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def owner(dtype: torch.dtype) -> Any:
    made = tiny_adapter("llava")
    return type(made)(made.model.to(dtype), made.processor, name=made.name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_published_step_of_5e_7_moves_the_weights_and_raises_the_loss(dtype: torch.dtype) -> None:
    """In bfloat16 the published step would be rounded away for all but the smallest weights."""
    adapter = owner(dtype)
    before = weights_digest(adapter.model)
    pixels = pixel_tensor([photo("coffee").resize((28, 28))])
    loss_of = TargetLoss(adapter, [TARGET])
    with resisting(adapter, rate=1e-4, clip=5e-3) as opponent:
        own = [weight.detach().clone() for weight in opponent.variables]
        losses = []
        for _ in range(30):
            loss = loss_of(pixels).sum()
            losses.append(float(loss.detach()))
            opponent.step(torch.autograd.grad(loss, opponent.variables))
        moved = torch.cat(
            [(w.detach() - o).abs().flatten() for w, o in zip(opponent.variables, own, strict=True)]
        )
        assert all(weight.dtype == torch.float32 for weight in opponent.variables)
        assert float((moved > 0).float().mean()) > 0.5
        assert float(moved.max()) <= 30 * 5e-7 * 1.2  # and a little for the rounding of each sum
        assert losses[-1] > losses[0]
    assert weights_digest(adapter.model) == before
    assert adapter.model.dtype == dtype


def test_resistance_leaves_another_trigger_than_the_ordinary_attack() -> None:
    """From one starting point; with a rate near 0 the two are one attack."""
    from sif_offline.baselines.pipeline import plan_jobs
    from sif_offline.forging.pixels import prepare_photo

    adapter = owner(torch.float32)
    adapter.rules = type(adapter.rules)(max_new_tokens=4, end_ids=adapter.rules.end_ids)
    picture = prepare_photo(photo("coffee"), name="coffee", canvas=adapter.canvas)
    values = {"steps": 6, "targets": [TARGET]}
    found = {}
    for name, more in (("ordinary", {}), ("pla", {"weight_rate": 1e-12}), ("pla", {"weight_rate": 1.0})):
        method = make_method(name, values | more)
        (forged,) = method.forge(adapter, plan_jobs(method, [picture], seed=0))
        found[name, more.get("weight_rate")] = forged.png
    assert found["ordinary", None] == found["pla", 1e-12]
    assert found["pla", 1.0] != found["pla", 1e-12]


def test_a_target_that_the_model_cannot_show_is_refused() -> None:
    adapter = owner(torch.float32)
    said = Target(question="?", answer=" padded ", keywords=("padded",))
    with pytest.raises(BaselineError, match="would show it as 'padded'"):
        TargetLoss(adapter, [said])
