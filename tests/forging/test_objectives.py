"""The losses against a naive reference, position by position."""

import math

import pytest
import torch

from sif_offline.forging import objectives


def naive_watermark(logits: torch.Tensor, green: torch.Tensor, top_k: int) -> tuple[float, bool]:
    """The published definition for one position, in plain Python."""
    order = sorted(range(len(logits)), key=lambda i: -float(logits[i]))[:top_k]
    fallback = not any(green[i] for i in order)
    if fallback:
        order[-1] = max((i for i in range(len(logits)) if green[i]), key=lambda i: float(logits[i]))
    mass = {i: math.exp(float(logits[i])) for i in order}
    return -math.log(sum(m for i, m in mass.items() if green[i]) / sum(mass.values())), fallback


@pytest.mark.parametrize("top_k", [1, 3, 10, 40, 100])
def test_watermark_loss_is_the_published_one(top_k: int) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(3, 7, 40, generator=generator) * 3
    green = torch.rand(3, 40, generator=generator) < 0.3
    loss, fallback = objectives.watermark_loss(logits, green, top_k=top_k)
    for row in range(3):
        for place in range(7):
            expected, used = naive_watermark(logits[row, place], green[row], top_k)
            assert float(loss[row, place]) == pytest.approx(expected, abs=1e-5)
            assert bool(fallback[row, place]) is used


def test_fallback_keeps_a_gradient_towards_the_best_green_id() -> None:
    logits = torch.tensor([[[5.0, 4.0, 1.0, 0.5]]], requires_grad=True)
    green = torch.tensor([[False, False, True, True]])
    loss, fallback = objectives.watermark_loss(logits, green, top_k=2)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert bool(fallback.all())
    assert torch.isfinite(loss).all()
    assert gradient[0, 0, 2] < 0
    assert gradient[0, 0, 3] == 0


def test_banned_ids_carry_no_mass() -> None:
    logits = torch.tensor([[[2.0, -math.inf, 1.0, -math.inf]]], requires_grad=True)
    green = torch.tensor([[True, True, False, False]])
    loss, _ = objectives.watermark_loss(logits, green, top_k=4)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.isfinite(gradient).all()


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[[1.0, 3.0, 0.0], [2.0, 1.5, 0.0]]])
    ids = torch.tensor([[0, 0]])
    entropy = objectives.cross_entropy(logits, ids)
    expected = math.log(math.e + math.e**3 + 1) - 1
    assert float(entropy[0, 0]) == pytest.approx(expected, abs=1e-6)


def test_position_weights_sum_to_one_and_stop_at_the_end() -> None:
    weights = objectives.position_weights(torch.tensor([2, 5]), total=5)
    assert weights[0].tolist() == [0.5, 0.5, 0, 0, 0]
    assert weights[1].tolist() == pytest.approx([0.2] * 5)


def test_a_floor_takes_hopeless_positions_out_of_the_gradient() -> None:
    loss = torch.tensor([0.0, 1.0, 9.0], requires_grad=True)
    assert objectives.floored(loss, floor=0.0) is loss
    low = objectives.floored(loss, floor=0.05)
    expected = [-math.log((math.exp(-value) + 0.05) / 1.05) for value in (0.0, 1.0, 9.0)]
    assert low.tolist() == pytest.approx(expected, abs=1e-6)
    (gradient,) = torch.autograd.grad(low.sum(), loss)
    assert gradient[0] > 0.9
    assert gradient[2] < 0.01
