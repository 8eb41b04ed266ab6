"""Finished triggers to a pack on disk."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sif_offline.fingerprint.pack import Decoding, FingerprintPack, Owner, TriggerRow, write_pack
from sif_offline.forging.contact_sheet import contact_sheet
from sif_offline.forging.pixels import Photo, png_bytes
from sif_offline.forging.plan import Job
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.workdir import Finished
from sif_offline.models.base import VLMAdapter

CONTACT_SHEET = "contact_sheet.png"


def write_forged(
    out: Path,
    adapter: VLMAdapter,
    rows: Sequence[tuple[Job, Finished]],
    *,
    settings: ForgeSettings,
    digest: str,
    demo_key: bool,
    extensions: Mapping[str, Any],
) -> FingerprintPack:
    """Write the pack and its contact sheet.

    Args:
        out: directory.
        adapter: the owner.
        rows: at least one.
        settings: of the run.
        digest: of the run; the pack's id follows from it.
        demo_key: whether the published secret was used.
        extensions: what else the pack says of its making, JSON values.

    Raises:
        PackError: the pack cannot be written.
    """
    files = {"tokenizer.json": adapter.tokenizer_json()}
    for job, done in rows:
        files |= {_trigger_file(job): done.png, _clean_file(job): job.photo.png}
    files[CONTACT_SHEET] = png_bytes(
        contact_sheet(
            [
                (job.trigger_id, job.photo.image(), Photo(job.trigger_id, done.png).image())
                for job, done in rows
            ]
        )
    )
    pack = FingerprintPack(
        pack_id=f"sif-{digest[:16]}",
        owner=Owner(id=adapter.model_id, revision=adapter.revision, weights_sha256=adapter.weights_sha256),
        vocab_size=adapter.vocab_size,
        tokenizer_sha256=hashlib.sha256(files["tokenizer.json"]).hexdigest(),
        scheme=settings.scheme,
        gamma=settings.gamma,
        decoding=Decoding(max_new_tokens=adapter.rules.max_new_tokens),
        forge=settings.model_dump(mode="json"),
        triggers=tuple(_row(job, done, settings) for job, done in rows),
        created=datetime.now(UTC),
        demo_key=demo_key,
        # a picture prepared by the other backend is off by several 8-bit values where it is resized
        extensions={"forge_job": digest, "image_backend": adapter.backend, **extensions},
    )
    return write_pack(out, pack, files)


def _trigger_file(job: Job) -> str:
    return f"triggers/{job.trigger_id}.png"


def _clean_file(job: Job) -> str:
    return f"clean/{job.trigger_id}.png"


def _row(job: Job, done: Finished, settings: ForgeSettings) -> TriggerRow:
    return TriggerRow(
        id=job.trigger_id,
        file=_trigger_file(job),
        sha256=hashlib.sha256(done.png).hexdigest(),
        clean_file=_clean_file(job),
        clean_sha256=job.photo.sha256,
        prompt=job.prompt,
        teacher_text=done.teacher_text,
        epsilon=settings.epsilon,
        expected_green_share=done.expected_green_share,
        judged=done.judged,
        key_commitment=job.key_commitment,
        extensions={"forge": done.details},
    )
