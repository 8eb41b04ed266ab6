"""The search: bound, gradient, progress, batches."""

import pytest
import torch

from sif_offline.forging.copies import ensemble_copies
from sif_offline.forging.optimiser import Batch, Step, optimise
from sif_offline.forging.pixels import Photo, pixel_tensor
from sif_offline.forging.settings import ForgeSettings, SettingsError
from sif_offline.forging.transport import transport_at
from sif_offline.models.lab import LabAdapter


def green_lists(adapter: LabAdapter, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, adapter.vocab_size, generator=generator) < 0.5


def test_the_loss_falls_and_the_iterate_stays_in_the_ball(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    s = settings.model_copy(
        update={"steps": 12, "rfo": False, "epsilon": 5, "alpha": 2.0, "alpha_end": 0.5, "schedule": "linear"}
    )
    clean = pixel_tensor([photo.image() for photo in photos[:2]]).to(torch.uint8)
    clean[0, :, :40] = 255
    clean[0, :, 40:80] = 0
    batch = Batch(
        adapter,
        prompt="Describe.",
        teachers=[[20, 30, 40, 50, 60, 70], [21, 31, 41]],
        green=green_lists(adapter, 2),
        settings=s,
    )
    seen: list[torch.Tensor] = []
    steps: list[Step] = []

    def judge(pixels: torch.Tensor) -> list[float]:
        seen.append(pixels)
        return [0.0] * len(pixels)

    found = optimise(batch, clean=clean, judge=judge, on_step=steps.append)
    assert [step.number for step in steps] == list(range(1, 13))
    first, last = steps[0], steps[-1]
    assert last.watermark + last.cross_entropy < first.watermark + first.cross_entropy
    assert [best.step for best in found] == [12, 12], "the later one on a tie"
    for pixels in seen:
        moved = (pixels.int() - clean.int()).abs()
        assert int(moved.max()) == 5
    assert found[0].pixels.dtype == torch.uint8


def test_the_best_judged_iterate_wins(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    s = settings.model_copy(update={"steps": 4, "judge_every": 1, "judge_from": 0.0})
    clean = pixel_tensor([photo.image() for photo in photos[:2]]).to(torch.uint8)
    batch = Batch(
        adapter, prompt="Describe.", teachers=[[20, 30], [21, 31]], green=green_lists(adapter, 2), settings=s
    )
    scores = iter([[0.0, 3.0], [2.0, 1.0], [1.0, 2.0], [-1.0, 0.0]])
    seen: list[torch.Tensor] = []

    def judge(pixels: torch.Tensor) -> list[float]:
        seen.append(pixels)
        return next(scores)

    found = optimise(batch, clean=clean, judge=judge)
    assert [(best.step, best.score) for best in found] == [(2, 2.0), (1, 3.0)]
    assert torch.equal(found[0].pixels, seen[1][0])
    assert torch.equal(found[1].pixels, seen[0][1])


def test_the_gradient_is_that_of_the_loss(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    """Central differences along the gradient itself, where the signal is largest."""
    s = settings.model_copy(update={"rfo": False})
    batch = Batch(
        adapter, prompt="Describe.", teachers=[[20, 30, 40]], green=green_lists(adapter, 1), settings=s
    )
    pixels = pixel_tensor([photos[0].image()])
    gradient, _ = batch.gradient(pixels)
    direction = gradient / gradient.norm()
    size = 0.05
    up, down = (batch.gradient(pixels + sign * size * direction)[1].total for sign in (1, -1))
    slope = ((up - down) / (2 * size)).item()
    assert slope > 0
    assert abs(slope - float(gradient.norm())) < 0.05 * slope


def test_neighbours_in_a_batch_do_not_matter(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    green = green_lists(adapter, 2)
    teachers = [[20, 30, 40, 50, 60], [21, 31]]
    pixels = pixel_tensor([photo.image() for photo in photos[:2]])
    both, _ = Batch(adapter, prompt="D.", teachers=teachers, green=green, settings=settings).gradient(pixels)
    alone, _ = Batch(
        adapter, prompt="D.", teachers=teachers[1:], green=green[1:], settings=settings
    ).gradient(pixels[1:])
    torch.testing.assert_close(both[1:], alone, rtol=2e-2, atol=1e-3 * float(alone.abs().max()))


def test_present_answers_join_the_loss(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    weight = 0.25
    s = settings.model_copy(update={"on_policy_every": 1, "on_policy_weight": weight, "rfo": False})
    green = green_lists(adapter, 2)
    teachers, answers = [[20, 30, 40], [21, 31]], [[50, 60], []]
    pixels = pixel_tensor([photo.image() for photo in photos[:2]])

    def gradient_of(texts: list[list[int]], **changes: float) -> torch.Tensor:
        settings_of = s.model_copy(update=changes)
        batch = Batch(adapter, prompt="D.", teachers=texts, green=green, settings=settings_of)
        return batch.gradient(pixels)[0]

    batch = Batch(adapter, prompt="D.", teachers=teachers, green=green, settings=s).with_answers(answers)
    mixed, losses = batch.gradient(pixels)
    own = gradient_of([answers[0], teachers[1]], weight_ce=0.0)
    expected = (1 - weight) * gradient_of(teachers) + weight * own
    torch.testing.assert_close(mixed, expected, rtol=2e-2, atol=1e-3 * float(expected.abs().max()))
    assert losses.total.shape == (4,)
    clean = pixels.to(torch.uint8)
    fresh = Batch(adapter, prompt="D.", teachers=teachers, green=green, settings=s)
    found = optimise(fresh, clean=clean, judge=lambda pictures: [0.0] * len(pictures))
    assert len(found) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"search": "sign"},
        {"search": "adam", "alpha": 3.0},
        {"schedule": "cosine", "alpha": 3.0},
        {"smoothing": 1.5},
        {"ensemble": ("noise", "nf4")},
        {"ensemble": ("noise:0.05",), "ensemble_mode": "average"},
        {"transport_jpeg": (60, 80), "transport_resize": (0.75,), "transport_share": 1.0},
    ],
)
def test_every_way_of_searching_lowers_the_loss_inside_the_ball(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo], changes: dict[str, object]
) -> None:
    s = settings.model_copy(update={"steps": 10, "rfo": False, "epsilon": 6, "alpha": 2.0, **changes})
    clean = pixel_tensor([photo.image() for photo in photos[:2]]).to(torch.uint8)
    batch = Batch(
        adapter,
        prompt="Describe.",
        teachers=[[20, 30, 40, 50, 60, 70], [21, 31, 41]],
        green=green_lists(adapter, 2),
        settings=s,
    )
    copies = ensemble_copies(adapter, s)
    assert len(copies) == len(s.ensemble)
    found = optimise(batch, clean=clean, judge=lambda pixels: [0.0] * len(pixels), copies=copies)
    pixels = torch.stack([best.pixels for best in found])
    assert 0 < int((pixels.int() - clean.int()).abs().max()) <= 6
    ways = [transport_at(s, step) or (lambda picture: picture) for step in range(1, 6)]
    for member in [batch, *(batch.on(copy) for copy in copies)]:
        before, after = (
            torch.stack([member.gradient(way(picture.float()))[1].total.detach() for way in ways]).mean(0)
            for picture in (clean, pixels)
        )
        assert bool((after < before).all())


def test_a_trigger_that_reached_the_mark_is_left_alone(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    s = settings.model_copy(update={"steps": 6, "judge_every": 1, "judge_from": 0.0, "stop_at": 2.0})
    clean = pixel_tensor([photo.image() for photo in photos[:2]]).to(torch.uint8)
    batch = Batch(
        adapter, prompt="Describe.", teachers=[[20, 30], [21, 31]], green=green_lists(adapter, 2), settings=s
    )
    scores = iter([[0.0, 2.5], [1.0, 9.0], [2.0, 0.0], [9.0, 9.0]])
    steps: list[Step] = []
    found = optimise(batch, clean=clean, judge=lambda pixels: next(scores), on_step=steps.append)
    assert [(best.step, best.score) for best in found] == [(3, 2.0), (1, 2.5)]
    assert len(steps) == 3


def test_an_unknown_copy_is_named(adapter: LabAdapter, settings: ForgeSettings) -> None:
    for name in ("int4", "noise:big", "nf4:2"):
        s = settings.model_copy(update={"ensemble": (name,)})
        with pytest.raises(SettingsError, match=f"copy {name}: "):
            ensemble_copies(adapter, s)


def test_present_answers_are_sampled_by_the_triggers_own_chance(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    pixels = pixel_tensor([photo.image() for photo in photos[:2]]).to(torch.uint8)
    green = green_lists(adapter, 2)
    teachers = [[20, 30], [21, 31]]

    def answers(rows: slice, step: int, temperature: float) -> list[list[int]]:
        s = settings.model_copy(update={"on_policy_temperature": temperature})
        batch = Batch(adapter, prompt="D.", teachers=teachers[rows], green=green[rows], settings=s)
        return batch.present_answers(pixels[rows], step=step)

    both = answers(slice(0, 2), 11, 1.5)
    assert answers(slice(1, 2), 11, 1.5) == both[1:]
    assert answers(slice(0, 2), 21, 1.5) != both
    greedy = adapter.generate([photo.image() for photo in photos[:2]], "D.")
    assert answers(slice(0, 2), 11, 0.0) == answers(slice(0, 2), 21, 0.0) == greedy
