"""A batch in parts: every trigger gets its own gradient and losses back, in the batch's order."""

import torch

from sif_offline.forging.optimiser import Batch
from sif_offline.forging.parts import CPU_PART, parts_of, put_together
from sif_offline.forging.pixels import Photo, pixel_tensor
from sif_offline.forging.settings import ForgeSettings
from sif_offline.models.lab import LabAdapter

CPU = torch.device("cpu")


def test_parts_are_even_and_of_like_length() -> None:
    lengths = [9, 1, 8, 2, 7, 3, 6]
    found = parts_of(lengths, device=CPU)
    assert found == [[1, 3, 5], [6, 4], [2, 0]]
    assert max(len(part) for part in found) <= CPU_PART
    assert [len(part) for part in parts_of(lengths, device=torch.device("meta"))] == [7]


def test_rows_come_back_in_order() -> None:
    rows = torch.arange(10).view(2, 5)
    split = [[4, 0], [2, 3, 1]]
    pieces = [rows[:, part].flatten() for part in split]
    assert torch.equal(put_together(pieces, split, copies=2), rows.flatten())


def test_parts_do_not_mix_triggers_up(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    teachers = [[20, 30, 40, 50, 60], [21, 31], [22, 32, 42, 52], [23, 33, 43]]
    answers = [[25], [26, 36], [27, 37, 47], [28]]
    green = torch.rand(4, adapter.vocab_size, generator=torch.Generator().manual_seed(3)) < 0.5
    pixels = pixel_tensor([photos[place].image() for place in (0, 1, 2, 0)])
    s = settings.model_copy(update={"rfo_reuse": True})

    def batch(places: list[int]) -> Batch:
        return Batch(
            adapter,
            prompt="D.",
            teachers=[teachers[place] for place in places],
            green=green[places],
            settings=s,
            answers=[answers[place] for place in places],
        )

    whole, alone = batch([0, 1, 2, 3]), [batch([place]) for place in range(4)]
    assert len(whole.members) == 2
    for step in range(2):  # the second one drifts along the first one's gradients
        gradient, losses = whole.gradient(pixels + step)
        for place, own in enumerate(alone):
            expected, apart = own.gradient(pixels[place : place + 1] + step)
            close = {"rtol": 2e-2, "atol": 2e-3 * float(expected.abs().max())}
            torch.testing.assert_close(gradient[place : place + 1], expected, **close)
            for ours, theirs in zip(losses, apart, strict=True):
                torch.testing.assert_close(ours[[place, 4 + place]], theirs, rtol=1e-3, atol=1e-4)
