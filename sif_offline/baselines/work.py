"""The forging of one unit of a rival's triggers, wherever an executor puts it, and what is kept of it."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sif_offline.baselines.base import BaselineError, FingerprintMethod, Forged, Job
from sif_offline.baselines.registry import make_method
from sif_offline.models import VLMAdapter, load_adapter

Unit = tuple[Job, ...]
_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class BaselineWork:
    """:class:`~sif_offline.executors.base.Work` of a rival: a unit of jobs to its forged triggers.

    Args:
        model: what ``load_adapter`` takes; workers elsewhere load it themselves.
        weights_sha256: of the owner; a worker that finds other weights refuses.
        method: the rival.
        adapter: the owner where it is loaded already; stays in this process.
    """

    model: str
    weights_sha256: str
    method: FingerprintMethod
    adapter: VLMAdapter | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _elsewhere, (self.model, self.weights_sha256, self.method.name, self.method.settings)

    def open(self, device: str) -> Callable[[Unit, Callable[[Any], None]], list[Forged]]:
        """Load the owner.

        Raises:
            ModelError: a worker cannot load the model.
            BaselineError: it has other weights there.
        """
        adapter = self.adapter or load_adapter(self.model, device=device)
        if adapter.weights_sha256 != self.weights_sha256:
            raise BaselineError(f"model {self.model}: a worker on {device} finds other weights")
        return lambda unit, note: self.method.forge(adapter, unit, on_step=note)


def _elsewhere(model: str, weights_sha256: str, name: str, settings: BaseModel) -> BaselineWork:
    return BaselineWork(model, weights_sha256, make_method(name, settings))


def plan_units(method: FingerprintMethod, jobs: Sequence[Job], *, size: int | None = None) -> list[Unit]:
    """Jobs of one question each, at most ``size`` (the method's own) of them, in the order of their first.

    Other weights are made once, for all jobs.
    """
    if method.kind == "training":
        return [tuple(jobs)]
    size = size or method.batch_size
    units: list[Unit] = []
    for question in dict.fromkeys(job.target.question for job in jobs):
        same = [job for job in jobs if job.target.question == question]
        units += [tuple(same[start : start + size]) for start in range(0, len(same), size)]
    place = {job.trigger_id: number for number, job in enumerate(jobs)}
    return sorted(units, key=lambda unit: place[unit[0].trigger_id])


def keep(folder: Path, unit: Unit, forged: Sequence[Forged]) -> None:
    """Keep a unit's triggers under ``folder``: there whole or not at all, whenever the process dies."""
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix="."))
    for job, done in zip(unit, forged, strict=True):
        row = scratch / f"{job.trigger_id}.json"
        row.write_text(json.dumps({"details": done.details, "prompt": done.prompt}))
        if done.png is not None:
            row.with_suffix(".png").write_bytes(done.png)
    if forged[0].weights is not None:
        (scratch / _WEIGHTS).write_bytes(forged[0].weights)
    os.rename(scratch, folder / f"unit-{unit[0].trigger_id}")


def kept(folder: Path) -> dict[str, Forged]:
    """Everything that :func:`keep` has put under ``folder``, by trigger id."""
    return {
        row.stem: Forged(
            **json.loads(row.read_text()),
            png=_bytes(row.with_suffix(".png")),
            weights=_bytes(row.with_name(_WEIGHTS)),
        )
        for row in sorted(folder.glob("unit-*/*.json"))
    }


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None
