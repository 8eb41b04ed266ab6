"""The forging of one unit: teachers, search, random refinement, the judge's report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sif_offline.forging.copies import ensemble_copies
from sif_offline.forging.judge import Judge
from sif_offline.forging.optimiser import Batch, Step, optimise
from sif_offline.forging.pixels import pixel_tensor, png_bytes, to_image
from sif_offline.forging.plan import Unit
from sif_offline.forging.refine import Round, refine
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.speed import Speed
from sif_offline.forging.teacher import draw_teachers
from sif_offline.forging.workdir import Finished, ForgeError
from sif_offline.models import load_adapter
from sif_offline.models.base import VLMAdapter

REFINE_SEED_OFFSET = 104_729
"""Keeps the random search apart from the teacher's sampling and the judge's fresh copies."""

Note = Step | Round


@dataclass(frozen=True)
class ForgeWork:
    """:class:`~sif_offline.executors.base.Work` of a forge: a unit to its finished triggers.

    Args:
        model: what ``load_adapter`` takes; workers elsewhere load it themselves.
        weights_sha256: of the owner; a worker that finds other weights refuses.
        settings: of the run.
        speed: of the run.
        adapter: the owner where it is loaded already; stays in this process.
    """

    model: str
    weights_sha256: str
    settings: ForgeSettings
    speed: Speed = field(default_factory=Speed)
    adapter: VLMAdapter | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ForgeWork, (self.model, self.weights_sha256, self.settings, self.speed)

    def open(self, device: str) -> Callable[[Unit, Callable[[Any], None]], list[Finished]]:
        """Load the owner and make the judge's copies.

        Raises:
            ModelError: a worker cannot load the model.
            ForgeError: it has other weights there.
        """
        adapter = self.adapter or load_adapter(self.model, device=device)
        if adapter.weights_sha256 != self.weights_sha256:
            raise ForgeError(
                f"model {self.model}: a worker on {device} finds other weights than this process"
            )
        judge = Judge(adapter, self.settings)
        copies = ensemble_copies(adapter, self.settings)
        return lambda unit, note: forge_unit(
            adapter, unit, settings=self.settings, judge=judge, copies=copies, speed=self.speed, note=note
        )


def forge_unit(
    adapter: VLMAdapter,
    unit: Unit,
    *,
    settings: ForgeSettings,
    judge: Judge,
    copies: Sequence[VLMAdapter] = (),
    speed: Speed | None = None,
    note: Callable[[Note], None] = lambda step: None,
) -> list[Finished]:
    """Forge the triggers of one unit, in its order.

    Raises:
        TeacherError: the owner is silent about a photo.
    """
    prompt, seeds = unit[0].prompt, [job.seed for job in unit]
    images = [job.photo.image() for job in unit]
    masks = [job.mask for job in unit]
    green = torch.from_numpy(np.stack(masks)).to(adapter.device)
    teachers = draw_teachers(
        adapter, images=images, prompt=prompt, green=green, seeds=seeds, settings=settings
    )
    batch = Batch(
        adapter, prompt=prompt, teachers=[teacher.ids for teacher in teachers], green=green, settings=settings
    )
    clean = pixel_tensor(images).to(torch.uint8)
    with (speed or Speed()).applied(adapter):
        found = optimise(
            batch,
            clean=clean,
            judge=lambda pixels: judge.select(pixels, prompt=prompt, masks=masks),
            copies=copies,
            on_step=note,
        )
    found = refine(
        found,
        clean=clean,
        settings=settings,
        seeds=[seed + REFINE_SEED_OFFSET for seed in seeds],
        judge=lambda pixels, owners: judge.select(
            pixels, prompt=prompt, masks=[masks[owner] for owner in owners]
        ),
        on_round=note,
    )
    pngs = [png_bytes(to_image(best.pixels)) for best in found]
    judged, greedy = judge.measure(
        pngs, [job.photo.png for job in unit], prompt=prompt, masks=masks, seeds=seeds
    )
    return [
        Finished(
            trigger_id=job.trigger_id,
            png=png,
            teacher_text=adapter.text(teacher.ids),
            expected_green_share=score.green_share,
            judged={"teacher": teacher.z, "select": best.score, **columns},
            details={
                "photo": job.photo.name,
                "step": best.step,
                "types": score.types,
                "teacher_tokens": len(teacher.ids),
                "teacher_log_likelihood": teacher.log_likelihood,
                "teacher_passed_gate": teacher.passed,
            },
        )
        for job, png, teacher, best, columns, score in zip(
            unit, pngs, teachers, found, judged, greedy, strict=True
        )
    ]
