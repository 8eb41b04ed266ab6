"""The judge: conditions by name, batches that do not matter, a report that says what chose."""

import numpy as np
import pytest
import torch

from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.forging.judge import Judge
from sif_offline.forging.pixels import Photo, pixel_tensor, png_bytes, to_image
from sif_offline.forging.settings import ForgeSettings, SettingsError
from sif_offline.forging.transport import jpeg_image
from sif_offline.models.lab import LabAdapter


def masks_of(adapter: LabAdapter, count: int) -> list[np.ndarray]:
    return [
        green_mask(key=bytes([n + 1] * 32), vocab_size=adapter.vocab_size, gamma=0.5) for n in range(count)
    ]


def pixels_of(photos: list[Photo]) -> torch.Tensor:
    return pixel_tensor([photo.image() for photo in photos]).to(torch.uint8)


EVERY = ("jpeg:60", "resize:0.7", "temperature:0.7", "nf4", "int8", "noise:0.2")


def test_a_score_is_the_mean_over_conditions_and_knows_no_neighbours(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    s = settings.model_copy(update={"judge_conditions": EVERY, "judge_copies": 1})
    judge = Judge(adapter, s)
    assert [condition.name for condition in judge.conditions] == ["greedy", "noise", *EVERY]
    masks = masks_of(adapter, 2)
    pixels = pixels_of(photos[:2])
    both = judge.select(pixels, prompt="D.", masks=masks)
    alone = judge.select(pixels[1:], prompt="D.", masks=masks[1:])
    again = Judge(adapter, s).select(pixels, prompt="D.", masks=masks)
    assert both[1:] == pytest.approx(alone)
    assert both == again


def test_one_condition_alone_by_hand(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    s = settings.model_copy(update={"judge_conditions": ("jpeg:40",), "judge_copies": 0})
    judge = Judge(adapter, s)
    (mask,) = masks_of(adapter, 1)
    (got,) = judge.select(pixels_of(photos[:1]), prompt="D.", masks=[mask])
    image = photos[0].image()
    answers = [adapter.generate([seen], "D.")[0] for seen in (image, jpeg_image(image, quality=40))]
    expected = [judge.score(adapter.text(ids), mask=mask).z for ids in answers]
    assert got == pytest.approx(np.mean(expected))


def test_the_report_says_what_had_a_say(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    masks = masks_of(adapter, 2)
    pngs = [photo.png for photo in photos[:2]]

    def report(**changes: object) -> tuple[list[str], list[dict[str, float]]]:
        judge = Judge(adapter, settings.model_copy(update=changes))
        rows, greedy = judge.measure(pngs, pngs, prompt="D.", masks=masks, seeds=[5, 6])
        assert [row["greedy"] for row in rows] == [row["clean"] for row in rows]
        assert [score.z for score in greedy] == [row["greedy"] for row in rows]
        return list(rows[0]), rows

    names, rows = report()
    assert names == [
        "greedy",
        "clean",
        "fresh:noise",
        "fresh:nf4",
        "fresh:jpeg-75",
        "fresh:resize-0.75",
        "fresh:temperature-0.7",
        "fresh:temperature-1",
    ]
    named, same = report(judge_conditions=("jpeg:75", "jpeg:60"), ensemble=("nf4", "noise"))
    assert named[2:5] == ["fresh:noise", "nf4", "jpeg-75"]
    assert "fresh:resize-0.75" in named
    assert [list(row.values()) for row in rows] == [list(row.values()) for row in same]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jpeg:0", "condition jpeg:0: 0 is no value of jpeg"),
        ("jpeg", "condition jpeg: nothing is no value of jpeg"),
        ("resize:half", "condition resize:half: half is no value of resize"),
        ("temperature:-1", "condition temperature:-1: -1 is no value of temperature"),
        ("blur", "condition blur: want jpeg:Q"),
    ],
)
def test_an_unknown_condition_is_one_line(
    adapter: LabAdapter, settings: ForgeSettings, name: str, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Judge(adapter, settings.model_copy(update={"judge_conditions": (name,)}))
    assert str(caught.value).startswith(said)


def test_the_png_is_what_is_judged(adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]) -> None:
    judge = Judge(adapter, settings.model_copy(update={"judge_copies": 0}))
    masks = masks_of(adapter, 2)
    pixels = pixels_of(photos[:2])
    selected = judge.select(pixels, prompt="D.", masks=masks)
    pngs = [png_bytes(to_image(picture)) for picture in pixels]
    rows, _ = judge.measure(pngs, pngs, prompt="D.", masks=masks, seeds=[1, 2])
    assert selected == pytest.approx([row["greedy"] for row in rows])
