"""One column on one group of photos: seconds of the search, then what its triggers are worth."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.forge.columns import PUBLISHED, Column
from benchmarks.forge.plain import plain_search
from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.forging.judge import Judge
from sif_offline.forging.optimiser import Batch, optimise
from sif_offline.forging.pixels import Photo, pixel_tensor, png_bytes, to_image
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.teacher import draw_teachers
from sif_offline.models.base import VLMAdapter


@dataclass(frozen=True)
class Measured:
    """One trigger of one column.

    Args:
        column: its name.
        photo: the photo's name.
        cpu_seconds, wall_seconds: of the search with its selection, the group's shared out evenly. Teachers
            and the final measurement are not in it: they are the same for every column.
        z: by condition; none took part in selection but ``greedy``.
    """

    column: str
    photo: str
    cpu_seconds: float
    wall_seconds: float
    z: dict[str, float]

    def to_json(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


class Group:
    """Photos that one batch takes, with teachers and keys that all columns share."""

    def __init__(
        self,
        adapter: VLMAdapter,
        judge: Judge,
        photos: Sequence[Photo],
        settings: ForgeSettings,
        *,
        first: int,
    ) -> None:
        self.adapter, self.judge, self.photos, self.settings = adapter, judge, photos, settings
        self.prompt = settings.prompts[0]
        self.seeds = [first + place for place in range(len(photos))]
        self.keys = [seed.to_bytes(32, "big") for seed in self.seeds]
        self.masks: list[NDArray[np.bool_]] = [
            green_mask(key=key, vocab_size=adapter.vocab_size, gamma=settings.gamma, scheme=settings.scheme)
            for key in self.keys
        ]
        images = [photo.image() for photo in photos]
        self.green = torch.from_numpy(np.stack(self.masks))
        self.clean = pixel_tensor(images).to(torch.uint8)
        self.teachers = draw_teachers(
            adapter, images=images, prompt=self.prompt, green=self.green, seeds=self.seeds, settings=settings
        )

    def run(self, column: Column, *, photos: int) -> list[Measured]:
        """Search the column's way: the first ``photos`` with a plain loop, which takes each by itself, all in
        a batch.
        """
        cpu, wall = time.process_time(), time.perf_counter()
        found = self.search(column, photos=photos)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        n = len(found)
        rows, _ = self.judge.measure(
            [png_bytes(to_image(pixels)) for pixels in found],
            [photo.png for photo in self.photos[:n]],
            prompt=self.prompt,
            masks=self.masks[:n],
            seeds=self.seeds[:n],
        )
        return [
            Measured(column.name, photo.name, cpu / n, wall / n, row)
            for photo, row in zip(self.photos[:n], rows, strict=True)
        ]

    def search(self, column: Column, *, photos: int) -> list[Tensor]:
        """What :meth:`run` times: the triggers, ``(3, height, width)`` uint8 each."""
        settings = self.settings.model_copy(update={**PUBLISHED, **column.settings})
        return self._ours(settings) if column.habits is None else self._plain(column, settings, photos)

    def _plain(self, column: Column, settings: ForgeSettings, photos: int) -> list[Tensor]:
        habits = column.habits
        if habits is None:
            raise ValueError(f"{column.name} is no plain loop")
        return [
            plain_search(
                self.adapter,
                photo=self.clean[place],
                prompt=self.prompt,
                teacher=self.teachers[place].ids,
                key=self.keys[place],
                settings=settings,
                habits=habits,
                judge=lambda pixels, place=place: self.judge.select(
                    pixels, prompt=self.prompt, masks=[self.masks[place]]
                )[0],
            )
            for place in range(min(photos, len(self.photos)))
        ]

    def _ours(self, settings: ForgeSettings) -> list[Tensor]:
        batch = Batch(
            self.adapter,
            prompt=self.prompt,
            teachers=[teacher.ids for teacher in self.teachers],
            green=self.green,
            settings=settings,
        )
        found = optimise(
            batch,
            clean=self.clean,
            judge=lambda pixels: self.judge.select(pixels, prompt=self.prompt, masks=self.masks),
        )
        return [best.pixels for best in found]
