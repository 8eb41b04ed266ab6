"""Photos to a rival's pack; a run that was stopped goes on where it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from sif_offline.baselines.base import BaselineError, FingerprintMethod, Forged, Job, Step
from sif_offline.baselines.pack import MAIN, BaselinePack, BaselineRow, read_baseline, write_baseline
from sif_offline.baselines.work import BaselineWork, Unit, keep, kept, plan_units
from sif_offline.executors import Done, Event, Executor, Noted
from sif_offline.executors.local import LocalExecutor
from sif_offline.fingerprint.pack import Owner
from sif_offline.forging.pixels import Photo
from sif_offline.forging.workdir import job_digest, open_workdir
from sif_offline.models.base import VLMAdapter


@dataclass(frozen=True)
class Progress:
    """Triggers finished of how many, the unit that this is about, and its step (None between units)."""

    finished: int
    total: int
    unit: tuple[str, ...]
    step: Step | None


def plan_jobs(method: FingerprintMethod, photos: Sequence[Photo], *, seed: int) -> list[Job]:
    """One job a photo, in order; the targets take turns, a job's seed follows from its place."""
    targets = method.targets
    return [
        Job(f"t{place:03d}", photo, targets[place % len(targets)], seed * 100_003 + place)
        for place, photo in enumerate(photos)
    ]


def forge_baseline(
    adapter: VLMAdapter,
    method: FingerprintMethod,
    *,
    photos: Sequence[Photo],
    out: Path,
    seed: int = 0,
    executor: Executor | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> BaselinePack:
    """Forge one trigger a photo and write the pack.

    The same photos, model, method, settings and seed give the same triggers on the same machine, torch and
    number of threads. Finished units are kept in ``OUT.work`` until the pack is whole; a run that had
    already finished is recognised and its pack returned.

    Args:
        adapter: the owner.
        method: from :func:`~sif_offline.baselines.registry.make_method`.
        photos: cut to the adapter's canvas, at least one.
        out: directory of the pack; must not exist, be empty, or be this very run's.
        seed: of everything drawn.
        executor: who forges; this process by default.
        on_progress: called after every step and every finished unit.

    Raises:
        BaselineError: ``out`` holds something else, or the model cannot say a target.
        ForgeError: the work directory is another run's.
        PackError: the pack cannot be written.
    """
    jobs = plan_jobs(method, photos, seed=seed)
    settings = method.settings.model_dump(mode="json")
    digest = job_digest(
        {
            "version": 1,
            "method": [method.name, method.batch_size],
            "settings": settings,
            "model": [adapter.model_id, adapter.weights_sha256],
            "triggers": [
                [job.trigger_id, job.photo.sha256, job.seed, job.target.model_dump(mode="json")]
                for job in jobs
            ],
        }
    )
    if (done := _already_forged(out, digest)) is not None:
        return done
    with open_workdir(out, digest=digest) as workdir:
        finished = _forge_missing(
            plan_units(jobs, size=method.batch_size),
            BaselineWork(adapter.name, adapter.weights_sha256, method, adapter),
            executor or LocalExecutor(str(adapter.device)),
            workdir.path,
            on_progress,
        )
        rows = [(job, finished[job.trigger_id]) for job in jobs]
        pictures = {_file(job): done.png for job, done in rows}
        pictures |= {_clean_file(job): job.photo.png for job in jobs}
        pack = BaselinePack(
            pack_id=f"{method.name}-{digest[:16]}",
            method=method.name,
            settings={name: value for name, value in settings.items() if name != "targets"},
            owner=Owner(
                id=adapter.model_id, revision=adapter.revision, weights_sha256=adapter.weights_sha256
            ),
            image_backend=adapter.backend,
            triggers=tuple(_row(job, done) for job, done in rows),
            created=datetime.now(UTC),
            job=digest,
        )
        return write_baseline(out, pack, pictures)


def _forge_missing(
    units: Sequence[Unit],
    work: BaselineWork,
    executor: Executor,
    folder: Path,
    on_progress: Callable[[Progress], None],
) -> dict[str, Forged]:
    finished = kept(folder)
    total = sum(map(len, units))
    missing = [unit for unit in units if unit[0].trigger_id not in finished]

    def take(event: Event) -> None:
        names = tuple(job.trigger_id for job in missing[event.task])
        match event:
            case Noted(note=step):
                on_progress(Progress(len(finished), total, names, step))
            case Done(result=result):
                keep(folder, missing[event.task], result)
                finished.update(zip(names, result, strict=True))
                on_progress(Progress(len(finished), total, names, None))
            case _:
                pass

    executor.run(work, missing, on_event=take)
    return finished


def _already_forged(out: Path, digest: str) -> BaselinePack | None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MAIN).is_file():
        raise BaselineError(f"{out}: not empty, and no baseline pack")
    pack = read_baseline(out)
    if pack.job != digest:
        raise BaselineError(f"{out}: holds a pack of another run (other photos, model, method or settings)")
    return pack


def _row(job: Job, done: Forged) -> BaselineRow:
    details: dict[str, Any] = done.details
    return BaselineRow(
        id=job.trigger_id,
        file=_file(job),
        sha256=sha256(done.png).hexdigest(),
        clean_file=_clean_file(job),
        clean_sha256=job.photo.sha256,
        target=job.target,
        details=details,
    )


def _file(job: Job) -> str:
    return f"triggers/{job.trigger_id}.png"


def _clean_file(job: Job) -> str:
    return f"clean/{job.trigger_id}.png"
