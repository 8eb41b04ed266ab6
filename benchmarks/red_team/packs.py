"""Packs of the lab table: their best triggers, their keys, what unrelated models answered to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.lab_table.work import Answers, secret_of
from sif_offline.fingerprint.calibration_estimates import transfer_of
from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.keys import derive_pack_keys
from sif_offline.fingerprint.pack import FingerprintPack, TriggerRow, read_pack
from sif_offline.fingerprint.scoring import PackScorer
from sif_offline.forging.keeping import worth

NULLS = ("innocent-a", "innocent-b", "innocent-c")


@dataclass(frozen=True)
class Target:
    """A pack as the pirate meets it.

    Attributes:
        name: of its folder, ``<row of the lab table>-<seed>``.
        pack: with its files.
        scorer: with the pack's keys.
        rows: the best triggers, sorted by photo.
        transfer: bound of the excess green rate of unrelated models; None where nobody asked any.
    """

    name: str
    pack: FingerprintPack
    scorer: PackScorer
    rows: tuple[TriggerRow, ...]
    transfer: float | None

    @property
    def prompt(self) -> str:
        """Of all its triggers."""
        return self.rows[0].prompt

    def clean(self, row: TriggerRow) -> Image.Image:
        """The photo."""
        return decode_image(self.pack.clean_bytes(row), name=row.id)

    def trigger(self, row: TriggerRow, *, scale: float = 1.0) -> Image.Image:
        """The trigger, its change multiplied by ``scale`` and rounded."""
        return fainter(decode_image(self.pack.trigger_bytes(row), name=row.id), self.clean(row), scale=scale)


def photo_of(row: TriggerRow) -> str:
    """File name of the photo that a trigger was made from."""
    return str(row.extensions["forge"]["photo"])


def fainter(trigger: Image.Image, clean: Image.Image, *, scale: float) -> Image.Image:
    """``clean + scale (trigger - clean)``, rounded: between two pictures, hence never clipped."""
    if scale == 1:
        return trigger
    before, after = (np.asarray(image.convert("RGB"), dtype=np.float64) for image in (clean, trigger))
    return Image.fromarray(np.rint(before + scale * (after - before)).astype(np.uint8))


def open_target(folder: Path, name: str, *, keep: int) -> Target:
    """A pack of the lab table's folder, with the calibration it holds or else that of the table's answers.

    Raises:
        PackError: no such pack.
        WrongKeyError: not a pack of the lab table, whose keys are published.
    """
    pack = read_pack(folder / "packs" / name)
    best = sorted(pack.triggers, key=lambda row: -worth(row.judged))[:keep]
    rows = tuple(sorted(best, key=photo_of))
    scorer = PackScorer(pack, derive_pack_keys(secret_of(seed_of(name)), pack))
    if pack.calibration is not None:
        return Target(name, pack, scorer, rows, pack.calibration.transfer.bound)
    answers = Answers(folder / "answers" / f"{name}.jsonl")
    return Target(name, pack, scorer, rows, _transfer(answers, scorer, rows))


def seed_of(name: str) -> int:
    """Behind the last dash."""
    return int(name.rpartition("-")[2])


def recipe_of(name: str) -> str:
    """Before it."""
    return name.rpartition("-")[0]


def _transfer(answers: Answers, scorer: PackScorer, rows: Sequence[TriggerRow]) -> float | None:
    wanted = [(model, row.id) for model in NULLS for row in rows]
    if not all(key in answers.texts for key in wanted):
        return None
    scores = {
        model: {row.id: scorer.score(row.id, answers.texts[model, row.id]) for row in rows} for model in NULLS
    }
    return transfer_of(scores, 0.95).bound
