"""Random search after the gradient: never worse, inside the box, the same for a trigger in any batch."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from sif_offline.forging.optimiser import Best
from sif_offline.forging.refine import Round, refine
from sif_offline.forging.settings import ForgeSettings

SETTINGS = ForgeSettings(refine_rounds=4, refine_candidates=5, epsilon=6)


def brightness(pictures: Tensor, owners: Sequence[int]) -> list[float]:
    """A judge that likes light pictures."""
    return [float(picture.float().mean()) for picture in pictures]


def start(photos: Tensor) -> list[Best]:
    return [Best(pixels=photo.clone(), score=float(photo.float().mean()), step=1) for photo in photos]


def some_photos(count: int) -> Tensor:
    chance = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=chance)


def test_scores_rise_and_pictures_stay_in_the_box() -> None:
    photos = some_photos(3)
    rounds: list[Round] = []
    found = refine(
        start(photos),
        clean=photos,
        settings=SETTINGS,
        seeds=[1, 2, 3],
        judge=brightness,
        on_round=rounds.append,
    )
    assert [done.number for done in rounds] == [1, 2, 3, 4]
    assert all(later.score >= earlier.score for earlier, later in pairwise(rounds))
    for best, photo, before in zip(found, photos, start(photos), strict=True):
        assert best.score > before.score
        assert best.score == float(best.pixels.float().mean())
        assert (best.pixels.int() - photo.int()).abs().max() <= SETTINGS.epsilon


def test_a_trigger_does_not_depend_on_its_batch() -> None:
    photos = some_photos(2)
    both = refine(start(photos), clean=photos, settings=SETTINGS, seeds=[7, 8], judge=brightness)
    alone = refine(start(photos[1:]), clean=photos[1:], settings=SETTINGS, seeds=[8], judge=brightness)
    assert torch.equal(both[1].pixels, alone[0].pixels)


def test_no_rounds_change_nothing() -> None:
    photos = some_photos(1)
    before = start(photos)
    off = SETTINGS.model_copy(update={"refine_rounds": 0})
    assert refine(before, clean=photos, settings=off, seeds=[1], judge=brightness) == before


def test_a_trigger_that_reached_the_mark_is_left_alone() -> None:
    photos = some_photos(2)
    before = start(photos)
    mark = before[0].score
    asked: list[int] = []

    def judge(pictures: Tensor, owners: Sequence[int]) -> list[float]:
        asked.extend(owners)
        return [mark + 1] * len(pictures)

    below = [before[0], Best(pixels=before[1].pixels, score=mark - 1, step=1)]
    s = SETTINGS.model_copy(update={"stop_at": mark})
    found = refine(below, clean=photos, settings=s, seeds=[1, 2], judge=judge)
    assert found[0] is below[0]
    assert found[1].score == mark + 1
    assert asked == [1] * SETTINGS.refine_candidates, "one round, then both are done"
