"""Photos to a pack: teachers, search, judging, and work that survives a kill."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.keys import MasterSecret, derive_trigger_key, key_commitment
from sif_offline.fingerprint.pack import (
    Decoding,
    FingerprintPack,
    Owner,
    TriggerRow,
    read_pack,
    write_pack,
)
from sif_offline.forging.contact_sheet import contact_sheet
from sif_offline.forging.judge import Judge
from sif_offline.forging.optimiser import Batch, Step, optimise
from sif_offline.forging.pixels import Photo, pixel_tensor, png_bytes, to_image
from sif_offline.forging.refine import Round, refine
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.teacher import draw_teachers
from sif_offline.forging.workdir import Finished, ForgeError, WorkDir, job_digest, open_workdir
from sif_offline.models.base import VLMAdapter

CONTACT_SHEET = "contact_sheet.png"
REFINE_SEED_OFFSET = 104_729
"""Keeps the random search apart from the teacher's sampling and the judge's fresh copies."""


@dataclass(frozen=True)
class Progress:
    """Triggers finished of how many; the running batch and its step, None between batches."""

    finished: int
    total: int
    step: Step | Round | None
    batch: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """One trigger to be forged."""

    trigger_id: str
    photo: Photo
    prompt: str
    key: bytes
    mask: NDArray[np.bool_]
    seed: int


def forge_pack(
    adapter: VLMAdapter,
    *,
    photos: Sequence[Photo],
    secret: MasterSecret,
    settings: ForgeSettings,
    out: Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> FingerprintPack:
    """Forge one trigger a photo and write the pack.

    The same photos, model, secret and settings give the same triggers on the same machine and torch. Finished
    triggers are kept beside ``out`` until the pack is whole, so that a run that was killed goes on where it
    stopped; a run that had already finished is recognised and its pack returned.

    Args:
        adapter: the owner.
        photos: cut to the adapter's canvas, at least one.
        secret: the master secret; neither it nor a trigger key is written.
        settings: of the run.
        out: directory of the pack; must not exist, be empty, or be this very run's.
        on_progress: called after every step and every finished trigger.

    Raises:
        ForgeError: ``out`` or the work directory is taken.
        TeacherError: the owner is silent about a photo.
        PackError: the pack cannot be written.
    """
    jobs = [_job(adapter, place, photo, secret, settings) for place, photo in enumerate(photos)]
    digest = job_digest(_description(adapter, jobs, settings))
    if (done := _already_forged(out, digest)) is not None:
        return done
    with open_workdir(out, digest=digest) as work:
        _forge_missing(adapter, jobs, settings, work, on_progress)
        return _write(adapter, jobs, settings, out, work, digest=digest, demo_key=secret.is_demo)


def check_out(out: Path) -> None:
    """Refuse an output that is taken, before any work is done.

    Raises:
        ForgeError: ``out`` is a file, or a directory that holds something other than a pack.
    """
    if out.suffix == ".zip" or (out.exists() and not out.is_dir()):
        raise ForgeError(f"{out}: a pack is forged into a directory")
    if out.is_dir() and any(out.iterdir()) and not (out / "pack.json").is_file():
        raise ForgeError(f"{out}: not empty, and not a pack")


def _job(
    adapter: VLMAdapter, place: int, photo: Photo, secret: MasterSecret, settings: ForgeSettings
) -> _Job:
    trigger_id = f"t{place:03d}"
    key = derive_trigger_key(
        secret, owner=adapter.model_id, model_hash=adapter.weights_sha256, trigger_id=trigger_id
    )
    return _Job(
        trigger_id=trigger_id,
        photo=photo,
        prompt=settings.prompts[place % len(settings.prompts)],
        key=key,
        mask=green_mask(key=key, vocab_size=adapter.vocab_size, gamma=settings.gamma, scheme=settings.scheme),
        seed=settings.seed * 100_003 + place,
    )


def _description(adapter: VLMAdapter, jobs: Sequence[_Job], settings: ForgeSettings) -> dict[str, Any]:
    return {
        "version": 1,
        "model": [adapter.model_id, adapter.weights_sha256],
        "tokenizer": hashlib.sha256(adapter.tokenizer_json()).hexdigest(),
        "settings": settings.model_dump(mode="json"),
        "triggers": [
            [job.trigger_id, job.photo.sha256, job.prompt, key_commitment(job.trigger_id, job.key)]
            for job in jobs
        ],
    }


def _already_forged(out: Path, digest: str) -> FingerprintPack | None:
    check_out(out)
    if not (out / "pack.json").is_file():
        return None
    pack = read_pack(out)
    if pack.extensions.get("forge_job") != digest:
        raise ForgeError(f"{out}: holds a pack of another run (other photos, model, key or settings)")
    return pack


def _forge_missing(
    adapter: VLMAdapter,
    jobs: Sequence[_Job],
    settings: ForgeSettings,
    work: WorkDir,
    on_progress: Callable[[Progress], None],
) -> None:
    have = set(work.finished())
    missing = [job for job in jobs if job.trigger_id not in have]
    if not missing:
        return
    judge = Judge(adapter, settings)
    count = len(have)
    on_progress(Progress(finished=count, total=len(jobs), step=None, batch=()))
    for group in _batches(missing, jobs, settings.batch_size):
        names = tuple(job.trigger_id for job in group)

        def report(step: Step | Round, *, finished: int = count, names: tuple[str, ...] = names) -> None:
            on_progress(Progress(finished=finished, total=len(jobs), step=step, batch=names))

        for done in _forge_batch(adapter, group, settings, judge, report):
            work.add(done)
            count += 1
        on_progress(Progress(finished=count, total=len(jobs), step=None, batch=names))


def _batches(missing: Sequence[_Job], jobs: Sequence[_Job], size: int) -> list[list[_Job]]:
    """Batches of one prompt each, cut over all jobs: a resumed run forms those of an unbroken one."""
    wanted = {job.trigger_id for job in missing}
    batches = []
    for prompt in dict.fromkeys(job.prompt for job in jobs):
        same = [job for job in jobs if job.prompt == prompt]
        for start in range(0, len(same), size):
            batch = [job for job in same[start : start + size] if job.trigger_id in wanted]
            batches += [batch] if batch else []
    return batches


def _forge_batch(
    adapter: VLMAdapter,
    group: Sequence[_Job],
    settings: ForgeSettings,
    judge: Judge,
    on_step: Callable[[Step | Round], None],
) -> list[Finished]:
    prompt, seeds = group[0].prompt, [job.seed for job in group]
    images = [job.photo.image() for job in group]
    masks = [job.mask for job in group]
    green = torch.from_numpy(np.stack(masks)).to(adapter.device)
    teachers = draw_teachers(
        adapter, images=images, prompt=prompt, green=green, seeds=seeds, settings=settings
    )
    batch = Batch(
        adapter, prompt=prompt, teachers=[teacher.ids for teacher in teachers], green=green, settings=settings
    )
    clean = pixel_tensor(images).to(torch.uint8)
    found = optimise(
        batch,
        clean=clean,
        judge=lambda pixels: judge.select(pixels, prompt=prompt, masks=masks),
        on_step=on_step,
    )
    found = refine(
        found,
        clean=clean,
        settings=settings,
        seeds=[seed + REFINE_SEED_OFFSET for seed in seeds],
        judge=lambda pixels, owners: judge.select(
            pixels, prompt=prompt, masks=[masks[owner] for owner in owners]
        ),
        on_round=on_step,
    )
    pngs = [png_bytes(to_image(best.pixels)) for best in found]
    judged, greedy = judge.measure(
        pngs, [job.photo.png for job in group], prompt=prompt, masks=masks, seeds=seeds
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
            group, pngs, teachers, found, judged, greedy, strict=True
        )
    ]


def _write(
    adapter: VLMAdapter,
    jobs: Sequence[_Job],
    settings: ForgeSettings,
    out: Path,
    work: WorkDir,
    *,
    digest: str,
    demo_key: bool,
) -> FingerprintPack:
    finished = work.finished()
    files = {"tokenizer.json": adapter.tokenizer_json()}
    rows, pictures = [], []
    for job in jobs:
        done = finished[job.trigger_id]
        name, clean_name = f"triggers/{job.trigger_id}.png", f"clean/{job.trigger_id}.png"
        files |= {name: done.png, clean_name: job.photo.png}
        pictures.append((job.trigger_id, job.photo.image(), Photo(job.trigger_id, done.png).image()))
        rows.append(
            TriggerRow(
                id=job.trigger_id,
                file=name,
                sha256=hashlib.sha256(done.png).hexdigest(),
                clean_file=clean_name,
                clean_sha256=job.photo.sha256,
                prompt=job.prompt,
                teacher_text=done.teacher_text,
                epsilon=settings.epsilon,
                expected_green_share=done.expected_green_share,
                judged=done.judged,
                key_commitment=key_commitment(job.trigger_id, job.key),
                extensions={"forge": done.details},
            )
        )
    files[CONTACT_SHEET] = png_bytes(contact_sheet(pictures))
    pack = FingerprintPack(
        pack_id=f"sif-{digest[:16]}",
        owner=Owner(id=adapter.model_id, revision=adapter.revision, weights_sha256=adapter.weights_sha256),
        vocab_size=adapter.vocab_size,
        tokenizer_sha256=hashlib.sha256(files["tokenizer.json"]).hexdigest(),
        scheme=settings.scheme,
        gamma=settings.gamma,
        decoding=Decoding(max_new_tokens=adapter.rules.max_new_tokens),
        forge=settings.model_dump(mode="json"),
        triggers=tuple(rows),
        created=datetime.now(UTC),
        demo_key=demo_key,
        extensions={"forge_job": digest},
    )
    return write_pack(out, pack, files)
