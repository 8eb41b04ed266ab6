"""What was trained becomes a pack, with the scores of models that the training never saw."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.metav.pack import (
    VERIFIER,
    HeldOutScores,
    MetaVPack,
    QueryRow,
    VerifierSpec,
    query_digest,
    query_files,
    write_metav_pack,
)
from sif_offline.fingerprint.metav.views import seen_through
from sif_offline.fingerprint.pack import Owner
from sif_offline.metav.settings import MetaVSettings
from sif_offline.metav.train import Trained
from sif_offline.metav.zoo import Zoo, ZooModel
from sif_offline.models.digest import weights_digest


class MetaVPackingError(SifError):
    """A zoo that no pack can be made with, or models that do not fit a pack."""


def answers_of(models: Sequence[ZooModel], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each model by itself answers, ``(models, N, size)`` for queries ``(N, *shape)``."""
    asked = torch.from_numpy(np.array(queries))
    with torch.no_grad():
        return torch.stack([model.answers(asked) for model in models]).numpy()


def queries_of(pack: MetaVPack) -> NDArray[np.float32]:
    """The queries of a pack of tensors, ``(N, *shape)``. Raises ``MetaVPackingError``: it has texts."""
    inputs = list(pack.inputs.values())
    if any(isinstance(query, str) for query in inputs):
        raise MetaVPackingError(f"pack {pack.pack_id}: has queries of text, and local models take arrays")
    return np.stack([np.asarray(query) for query in inputs])


def check_new(path: str | Path) -> None:
    """Refuse a place that is taken, before any work is done. Raises ``MetaVPackingError``."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise MetaVPackingError(f"{path}: exists already")


def pack_metav(
    path: str | Path, zoo: Zoo, trained: Trained, settings: MetaVSettings, *, created: datetime
) -> MetaVPack:
    """Score the split ``calibration`` through every view and write the pack.

    The pack's id is a digest of its content, ``created`` left out. Every score is taken with the exported
    verifier, from what models answer to the float32 queries as the pack holds them.

    Args:
        path: of the pack; ending in ``.zip`` it is a zip.
        zoo: that ``trained`` comes from.
        trained: what to write.
        settings: that it was trained with.
        created: time of training, with its zone.

    Raises:
        MetaVPackingError: the zoo has no negatives for calibration.
        PackError: the path is taken or cannot be written.
    """
    task, settings = zoo.task, settings.for_outputs(zoo.task.output.kind)
    owner = zoo.model(zoo.owner)
    negatives = zoo.of("calibration", "negative")
    if not negatives:
        raise MetaVPackingError(f"{zoo.folder}: has no negatives for calibration, so there would be no p")
    scores = {
        role: _scores(zoo.models(rows), trained, settings.scored_views)
        for role, rows in (("negatives", negatives), ("positives", zoo.of("calibration", "positive")))
    }
    held_out = HeldOutScores(negatives=scores["negatives"], positives=scores["positives"])
    files = {**query_files(trained.queries), VERIFIER: trained.verifier.to_safetensors()}
    content = hashlib.sha256(held_out.model_dump_json().encode())
    for name in sorted(files):
        content.update(hashlib.sha256(files[name]).digest())
    pack = MetaVPack(
        pack_id=f"metav-{content.hexdigest()[:16]}",
        owner=Owner(
            id=f"zoo:{task.name}/owner",
            revision=owner.recipe.key,
            weights_sha256=weights_digest(owner.network),
        ),
        task=task.name,
        input=task.input,
        output=task.output,
        queries=tuple(
            QueryRow(id=f"q{number:03d}", sha256=query_digest(query))
            for number, query in enumerate(trained.queries)
        ),
        verifier=VerifierSpec(
            form=trained.verifier.form,
            activation=trained.verifier.activation,
            transform=trained.verifier.transform,
            sha256=hashlib.sha256(files[VERIFIER]).hexdigest(),
        ),
        held_out=held_out,
        forge=_forge(zoo, trained, settings),
        created=created,
    )
    return write_metav_pack(path, pack, files)


def _scores(
    models: Sequence[ZooModel], trained: Trained, views: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    if not models:
        return {}
    answers = answers_of(models, trained.queries)
    return {view: tuple(trained.verifier.log_odds(seen_through(answers, view)).tolist()) for view in views}


def _forge(zoo: Zoo, trained: Trained, settings: MetaVSettings) -> dict[str, Any]:
    return {
        "settings": settings.model_dump(mode="json"),
        "step": trained.step,
        "steps": trained.steps,
        "validation_loss": trained.validation_loss,
        "models": trained.models,
        "zoo": {"seed": zoo.manifest.seed, "members": len(zoo.members)},
    }
