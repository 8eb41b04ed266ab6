"""Photos or targets to a rival's pack; a run that was stopped goes on where it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from sif_offline.baselines.base import BaselineError, FingerprintMethod, Forged, Job, Step
from sif_offline.baselines.pack import MAIN, WEIGHTS, BaselinePack, BaselineRow, read_baseline, write_baseline
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


def plan_jobs(
    method: FingerprintMethod, photos: Sequence[Photo] = (), *, seed: int, count: int | None = None
) -> list[Job]:
    """One job a photo, in order, or a target where the method makes no pictures; their seeds follow from
    their places.

    Args:
        method: its targets take turns.
        photos: those that are changed; for other weights those that the model is held to, one a job as long
            as there are any; for prompts of no use.
        seed: of everything drawn.
        count: of jobs, by default as many as photos or targets.

    Raises:
        BaselineError: no photo for a picture.
    """
    targets = method.targets
    total = count or (len(photos) if method.kind == "image" else len(targets))
    if method.kind == "image" and not 0 < total <= len(photos):
        raise BaselineError(f"{method.name}: {len(photos)} photos, {max(total, 1)} are needed")
    used: list[Photo | None] = [] if method.kind == "text" else list(photos[:total])
    used += [None] * (total - len(used))
    return [
        Job(f"t{place:03d}", photo, targets[place % len(targets)], seed * 100_003 + place)
        for place, photo in enumerate(used)
    ]


def forge_baseline(
    adapter: VLMAdapter,
    method: FingerprintMethod,
    *,
    out: Path,
    photos: Sequence[Photo] = (),
    count: int | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> BaselinePack:
    """Forge the jobs of :func:`plan_jobs` and write the pack.

    The same photos, model, method, settings and seed give the same triggers on the same machine, torch and
    number of threads. Finished units are kept in ``OUT.work`` until the pack is whole; a run that had
    already finished is recognised and its pack returned.

    Args:
        adapter: the owner.
        method: from :func:`~sif_offline.baselines.registry.make_method`.
        out: directory of the pack; must not exist, be empty, or be this very run's.
        photos: cut to the adapter's canvas.
        count: of triggers.
        seed: of everything drawn.
        executor: who forges; this process by default.
        on_progress: called after every step and every finished unit.

    Raises:
        BaselineError: ``out`` holds something else, a photo is missing, or the model cannot say a target.
        ForgeError: the work directory is another run's.
        PackError: the pack cannot be written.
    """
    jobs = plan_jobs(method, photos, seed=seed, count=count)
    settings = method.settings.model_dump(mode="json")
    digest = job_digest(
        {
            "version": 1,
            "method": [method.name, method.batch_size],
            "settings": settings,
            "model": [adapter.model_id, adapter.weights_sha256],
            "triggers": [
                [job.trigger_id, _photo(job), job.seed, job.target.model_dump(mode="json")] for job in jobs
            ],
        }
    )
    if (done := _already_forged(out, digest)) is not None:
        return done
    with open_workdir(out, digest=digest) as workdir:
        finished = _forge_missing(
            plan_units(method, jobs),
            BaselineWork(adapter.name, adapter.weights_sha256, method, adapter),
            executor or LocalExecutor(str(adapter.device)),
            workdir.path,
            on_progress,
        )
        rows = [(job, finished[job.trigger_id]) for job in jobs]
        weights = rows[0][1].weights
        pack = BaselinePack(
            pack_id=f"{method.name}-{digest[:16]}",
            method=method.name,
            method_kind=method.kind,
            settings={name: value for name, value in settings.items() if name != "targets"},
            owner=Owner(
                id=adapter.model_id, revision=adapter.revision, weights_sha256=adapter.weights_sha256
            ),
            image_backend=adapter.backend,
            triggers=tuple(_row(job, done) for job, done in rows),
            weights=None if weights is None else WEIGHTS,
            weights_sha256=None if weights is None else sha256(weights).hexdigest(),
            created=datetime.now(UTC),
            job=digest,
        )
        return write_baseline(out, pack, _files(rows))


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
    if done.png is None:
        return BaselineRow(id=job.trigger_id, prompt=done.prompt, target=job.target, details=done.details)
    return BaselineRow(
        id=job.trigger_id,
        file=_file(job),
        sha256=sha256(done.png).hexdigest(),
        clean_file=_clean_file(job),
        clean_sha256=job.clean().sha256,
        target=job.target,
        details=done.details,
    )


def _files(rows: Sequence[tuple[Job, Forged]]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for job, done in rows:
        if done.png is not None:
            files |= {_file(job): done.png, _clean_file(job): job.clean().png}
        if done.weights is not None:
            files[WEIGHTS] = done.weights
    return files


def _photo(job: Job) -> str | None:
    return None if job.photo is None else job.photo.sha256


def _file(job: Job) -> str:
    return f"triggers/{job.trigger_id}.png"


def _clean_file(job: Job) -> str:
    return f"clean/{job.trigger_id}.png"
