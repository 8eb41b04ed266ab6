"""Teachers: the watermark shows, draws are reproducible, the gate holds."""

import pytest
import torch
from transformers import LogitsProcessorList

from sif_offline.forging.pixels import Photo
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.similarity import similarities
from sif_offline.forging.teacher import GreenBias, RowSampling, TeacherText, draw_teachers, log_likelihoods
from sif_offline.models.lab import LabAdapter


def green_lists(adapter: LabAdapter, count: int) -> torch.Tensor:
    return torch.rand(count, adapter.vocab_size, generator=torch.Generator().manual_seed(3)) < 0.5


def test_a_strong_bias_makes_a_green_teacher(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    images = [photo.image() for photo in photos[:2]]
    green = green_lists(adapter, 2)
    s = settings.model_copy(update={"delta": 100.0})
    teachers = draw_teachers(adapter, images=images, prompt="D.", green=green, seeds=[1, 2], settings=s)
    for row, teacher in enumerate(teachers):
        assert bool(green[row, list(teacher.ids)].all())
        assert not set(teacher.ids) & adapter.special_ids
        assert teacher.green_types == teacher.types == len(set(teacher.ids))
        assert teacher.passed


def test_a_draw_depends_on_its_own_seed_alone(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    images = [photo.image() for photo in photos[:2]]
    green = green_lists(adapter, 2)
    state = torch.random.get_rng_state()
    both = draw_teachers(adapter, images=images, prompt="D.", green=green, seeds=[7, 8], settings=settings)
    alone = draw_teachers(
        adapter, images=images[1:], prompt="D.", green=green[1:], seeds=[8], settings=settings
    )
    other = draw_teachers(adapter, images=images, prompt="D.", green=green, seeds=[9, 8], settings=settings)
    assert both[1].ids == alone[0].ids == other[1].ids
    assert torch.equal(state, torch.random.get_rng_state())


def test_draws_that_fail_the_gate_are_said_to(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    s = settings.model_copy(update={"min_tokens": 10_000})
    (teacher,) = draw_teachers(
        adapter,
        images=[photos[0].image()],
        prompt="D.",
        green=green_lists(adapter, 1),
        seeds=[1],
        settings=s,
    )
    assert not teacher.passed


def test_the_gate_asks_for_the_clean_answers_meaning(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    images = [photo.image() for photo in photos[:2]]
    green = green_lists(adapter, 2)

    def drawn(**changes: float) -> list[TeacherText]:
        s = settings.model_copy(update={"teacher_draws": 3, **changes})
        return draw_teachers(adapter, images=images, prompt="D.", green=green, seeds=[1, 2], settings=s)

    clean = [adapter.text(ids) for ids in adapter.generate(images, "D.")]
    asked = drawn(min_similarity=0.0)
    assert [teacher.similarity for teacher in drawn()] == [None, None]
    expected = similarities([adapter.text(teacher.ids) for teacher in asked], clean)
    assert [teacher.similarity for teacher in asked] == pytest.approx(expected, abs=1e-4)
    assert all(teacher.passed for teacher in asked)
    assert not any(teacher.passed for teacher in drawn(min_similarity=1.0))
    (same,) = drawn(min_similarity=0.99, delta=0.0, teacher_min_p=0.0)[:1]
    assert same.passed, "without a bias the greedy draw is the clean answer"


def test_similarity_knows_meaning() -> None:
    near, far = similarities(
        ["A dog runs over the grass."] * 2, ["A puppy is running on a lawn.", "Shares fell on Monday."]
    )
    assert near > 0.6 > 0.3 > far


def test_greedy_text_is_likelier_than_sampled_text(adapter: LabAdapter, photos: list[Photo]) -> None:
    images = [photos[0].image()]
    greedy = adapter.generate(images, "D.")
    sampler = RowSampling([4], temperatures=[3.0])
    sampled = adapter.generate(images, "D.", processors=LogitsProcessorList([sampler]))
    (high,) = log_likelihoods(adapter, images=images, prompt="D.", responses=greedy)
    (low,) = log_likelihoods(adapter, images=images, prompt="D.", responses=sampled)
    assert low < high < 0


def test_row_sampling_draws_from_the_softmax() -> None:
    """4,000 draws of three ids: chi-squared(2) exceeds 18.4 with probability 1e-4; the seed is fixed."""
    scores = torch.log(torch.tensor([[0.6, 0.3, 0.1]]))
    sampler = RowSampling([11], temperatures=[1.0])
    ids = torch.zeros(1, 1, dtype=torch.int64)
    draws = torch.stack([sampler(ids, scores).argmax(-1)[0] for _ in range(4000)])
    counts = torch.bincount(draws, minlength=3)
    expected = torch.tensor([2400.0, 1200.0, 400.0])
    assert float(((counts - expected) ** 2 / expected).sum()) < 18.4
    banned = torch.tensor([[0.0, float("-inf"), 0.0]])
    assert all(int(sampler(ids, banned).argmax()) != 1 for _ in range(50))


def test_bias_bars_unlikely_ids_and_lets_a_text_end() -> None:
    scores = torch.tensor([[0.0, -1.0, -4.0, -0.5, float("-inf")]])
    green = torch.tensor([[False, True, True, False, True]])
    ids = torch.zeros(1, 1, dtype=torch.int64)
    plain = GreenBias(green, delta=2.0)(ids, scores)
    torch.testing.assert_close(plain, torch.tensor([[0.0, 1.0, -2.0, -0.5, float("-inf")]]))
    careful = GreenBias(green, delta=2.0, min_p=0.1, end_ids=frozenset({3}))(ids, scores)
    barred = float("-inf")  # e^-4 is less than a tenth of e^0
    torch.testing.assert_close(careful, torch.tensor([[0.0, 1.0, barred, 1.5, barred]]))
