"""What a run will forge: jobs, and the units of them that are forged together.

A unit is a batch of triggers that share a prompt. Units are cut over the whole run before anything is forged:
a matrix product may round differently in a batch of another size, so who forges a unit, when, and after which
interruption changes no bit of it, but its members would.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.keys import MasterSecret, derive_trigger_key, key_commitment
from sif_offline.forging.pixels import Photo
from sif_offline.forging.settings import ForgeSettings
from sif_offline.models.base import VLMAdapter


@dataclass(frozen=True)
class Job:
    """One trigger to be forged. Holds its green list, never a key: it travels to workers elsewhere.

    Args:
        trigger_id: its id.
        photo: the clean picture.
        prompt: the user's words.
        key_commitment: of the trigger's key.
        mask: green list, bool ``(V,)``.
        seed: of everything drawn for this trigger.
    """

    trigger_id: str
    photo: Photo
    prompt: str
    key_commitment: str
    mask: NDArray[np.bool_]
    seed: int


Unit = tuple[Job, ...]


def plan_jobs(
    adapter: VLMAdapter, *, photos: Sequence[Photo], secret: MasterSecret, settings: ForgeSettings
) -> list[Job]:
    """One job a photo, in order; a trigger's id, key and seed follow from its place alone."""
    return [_job(adapter, place, photo, secret, settings) for place, photo in enumerate(photos)]


def _job(adapter: VLMAdapter, place: int, photo: Photo, secret: MasterSecret, settings: ForgeSettings) -> Job:
    trigger_id = f"t{place:03d}"
    key = derive_trigger_key(
        secret, owner=adapter.model_id, model_hash=adapter.weights_sha256, trigger_id=trigger_id
    )
    return Job(
        trigger_id=trigger_id,
        photo=photo,
        prompt=settings.prompts[place % len(settings.prompts)],
        key_commitment=key_commitment(trigger_id, key),
        mask=green_mask(key=key, vocab_size=adapter.vocab_size, gamma=settings.gamma, scheme=settings.scheme),
        seed=settings.seed * 100_003 + place,
    )


def plan_units(jobs: Sequence[Job], *, size: int) -> list[Unit]:
    """At most ``size`` jobs of one prompt each, in the order of their first job."""
    units: list[Unit] = []
    for prompt in dict.fromkeys(job.prompt for job in jobs):
        same = [job for job in jobs if job.prompt == prompt]
        units += [tuple(same[start : start + size]) for start in range(0, len(same), size)]
    place = {job.trigger_id: number for number, job in enumerate(jobs)}
    return sorted(units, key=lambda unit: place[unit[0].trigger_id])


def describe_run(adapter: VLMAdapter, jobs: Sequence[Job], settings: ForgeSettings) -> dict[str, Any]:
    """Everything that decides the outcome of a run, JSON values."""
    return {
        "version": 2,
        "model": [adapter.model_id, adapter.weights_sha256],
        "tokenizer": hashlib.sha256(adapter.tokenizer_json()).hexdigest(),
        "settings": settings.model_dump(mode="json"),
        "triggers": [[job.trigger_id, job.photo.sha256, job.prompt, job.key_commitment] for job in jobs],
    }
