"""Update rules, step lengths and smoothing, by hand; copies against bitsandbytes."""

import pytest
import torch

from sif_offline.forging.copies import int8_rounded, make_copy, nf4_rounded
from sif_offline.forging.search import make_rule, smoothed, step_length
from sif_offline.forging.settings import ForgeSettings
from sif_offline.models.lab import LabAdapter
from sif_offline.suspects.quiet import quiet_bitsandbytes


def test_sign_pgd_is_the_published_step() -> None:
    photo = torch.tensor([10.0, 250.0, 3.0]).view(1, 3, 1, 1)
    settings = ForgeSettings(search="sign", epsilon=4)
    rule = make_rule(settings, photo)
    gradient = torch.tensor([5.0, -0.1, 0.0]).view(1, 3, 1, 1)
    rule.step(gradient, length=3.0)
    assert rule.picture().flatten().tolist() == [7.0, 253.0, 3.0]
    rule.step(gradient, length=3.0)
    assert rule.picture().flatten().tolist() == [6.0, 254.0, 3.0], "the box"
    rule.step(-gradient, length=3.0)
    assert rule.picture().flatten().tolist() == [9.0, 251.0, 3.0], "sign PGD forgets"


def test_momentum_remembers_and_pixels_stay_pixels() -> None:
    photo = torch.tensor([1.0, 254.0, 100.0]).view(1, 3, 1, 1)
    rule = make_rule(ForgeSettings(momentum=0.9, epsilon=16), photo)
    strong = torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1, 1)
    rule.step(strong, length=2.0)
    rule.step(strong, length=2.0)
    assert rule.picture().flatten().tolist() == [0.0, 255.0, 96.0]
    rule.step(-strong, length=2.0)  # .9 * 1.9 outweighs 1
    assert rule.picture().flatten().tolist() == [0.0, 255.0, 94.0]


def test_adam_on_tanh_first_step_and_box() -> None:
    photo = torch.full((1, 3, 2, 2), 128.0)
    rule = make_rule(ForgeSettings(search="adam", epsilon=8), photo)
    gradient = torch.ones_like(photo)
    rule.step(gradient, length=1.0)
    torch.testing.assert_close(
        rule.picture(), 128 - 8 * torch.tanh(torch.full_like(photo, 1 / 8)), rtol=1e-5, atol=0
    )
    for _ in range(60):
        rule.step(gradient, length=4.0)
    assert float((rule.picture() - photo).abs().max()) <= 8
    assert float((rule.picture() - photo).abs().min()) > 7


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [2, 2, 2, 2, 2]), ("linear", [2, 1.5, 1, 0.5, 0]), ("cosine", [2, 1.7071, 1, 0.2929, 0])],
)
def test_step_lengths(schedule: str, expected: list[float]) -> None:
    settings = ForgeSettings.model_validate(
        {"schedule": schedule, "alpha": 2.0, "alpha_end": 1e-9, "steps": 5}
    )
    lengths = [step_length(settings, number) for number in range(1, 6)]
    assert lengths == pytest.approx(expected, abs=1e-4)
    assert step_length(settings.model_copy(update={"steps": 1}), 1) == 2.0


def test_smoothing_keeps_the_mean_and_kills_the_finest_detail() -> None:
    even = torch.full((1, 3, 20, 30), 2.0)
    torch.testing.assert_close(smoothed(even, sigma=2.0), even)
    checks = torch.ones(1, 3, 20, 30)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = -1
    assert float(smoothed(checks, sigma=2.0)[..., 6:-6, 6:-6].abs().max()) < 1e-4
    assert smoothed(checks, sigma=0) is checks


@pytest.mark.parametrize("shape", [(256, 256), (7, 33), (64, 100)])
def test_nf4_rounding_is_that_of_bitsandbytes(shape: tuple[int, int]) -> None:
    quiet_bitsandbytes()
    from bitsandbytes import functional

    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.02
    packed, state = functional.quantize_4bit(weight, quant_type="nf4", blocksize=64)
    assert torch.equal(nf4_rounded(weight), functional.dequantize_4bit(packed, state))
    assert torch.equal(nf4_rounded(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_eight_bits_lose_at_most_half_a_level() -> None:
    weight = torch.randn(40, 50, generator=torch.Generator().manual_seed(1))
    level = weight.abs().amax(dim=1, keepdim=True) / 127
    away = (int8_rounded(weight) - weight).abs()
    assert bool((away <= level * 0.5001).all())
    assert float(away.max()) > 0
    assert torch.equal(int8_rounded(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_copies_leave_the_owner_alone(adapter: LabAdapter) -> None:
    def weights(of: LabAdapter) -> torch.Tensor:
        return torch.cat([p.flatten() for layer in of.decoder_layers() for p in layer.parameters()])

    before = weights(adapter).clone()
    for name in ("nf4", "int8", "noise:0.1"):
        copied = make_copy(adapter, name, seed=1, noise=0.5)
        assert not torch.equal(weights(copied), before)
    assert torch.equal(weights(adapter), before)
