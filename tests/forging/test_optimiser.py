"""The search: bound, gradient, progress, batches."""

import torch

from sif_offline.forging.optimiser import Batch, Step, optimise
from sif_offline.forging.pixels import Photo, pixel_tensor
from sif_offline.forging.settings import ForgeSettings
from sif_offline.models.lab import LabAdapter


def green_lists(adapter: LabAdapter, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, adapter.vocab_size, generator=generator) < 0.5


def test_the_loss_falls_and_the_iterate_stays_in_the_ball(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    s = settings.model_copy(update={"steps": 12, "rfo": False, "epsilon": 5, "alpha": 2.0, "alpha_end": 0.5})
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


def test_only_new_ids_bear_the_watermark_loss_when_asked(
    adapter: LabAdapter, settings: ForgeSettings
) -> None:
    s = settings.model_copy(
        update={"novel_only": True, "decoding_in_loss": False, "top_k": adapter.vocab_size}
    )
    green = green_lists(adapter, 1)
    teacher = [20, 30, 20, 40]
    batch = Batch(adapter, prompt="D.", teachers=[teacher], green=green, settings=s)
    logits = torch.randn(1, 4, adapter.vocab_size, generator=torch.Generator().manual_seed(1))
    expected = []
    for place, said in ((0, []), (1, [20]), (3, [20, 30])):  # place 2 says 20 again
        mass = logits[0, place].exp()
        mass[said] = 0
        expected.append(-torch.log(mass[green[0]].sum() / mass.sum()))
    torch.testing.assert_close(batch.losses(logits).watermark[0], torch.stack(expected).mean())


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
