"""Altered copies are kept in the user's cache directory: a demo that runs twice trains once."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sif_offline.models.digest import weights_digest
from sif_offline.suspects.base import Stolen, SuspectError

if TYPE_CHECKING:
    from sif_offline.lab.modeling import LabVLM
    from sif_offline.lab.processing import LabProcessor


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/sifwatch/suspects``, by default under ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has a relative path ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "sifwatch" / "suspects"


def altered_copy(
    stolen: Stolen,
    *,
    recipe: Mapping[str, object],
    alter: "Callable[[LabVLM, LabProcessor], tuple[LabVLM, LabProcessor]]",
) -> Stolen:
    """The checkpoint of ``stolen`` after ``alter``, from the cache where it has been made before.

    Args:
        stolen: unquantised; its weights' hash is part of the key, so another model is another entry.
        recipe: everything else that decides the result, JSON-able, with a version of the method.
        alter: takes the loaded model and its processor, returns those of the altered one.

    Raises:
        SuspectError: ``stolen`` is quantised, or the cache cannot be written.
    """
    if stolen.options:
        raise SuspectError(f"{stolen.directory}: change the weights first, quantise afterwards")
    model, processor = stolen.load()
    key = json.dumps({**recipe, "weights": weights_digest(model)}, sort_keys=True)
    directory = cache_directory() / f"{recipe['name']}-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
    if not directory.is_dir():
        altered, its_processor = alter(model, processor)
        try:
            _write(altered.eval(), its_processor, directory)
        except OSError as error:
            raise SuspectError(f"{directory}: cannot be written: {error.strerror or error}") from None
    return Stolen(directory)


def trained_copy(
    stolen: Stolen,
    *,
    recipe: Mapping[str, object],
    train: "Callable[[LabVLM, LabProcessor], LabVLM]",
) -> Stolen:
    """:func:`altered_copy` of what keeps its processor: ``train`` returns the trained model."""
    return altered_copy(
        stolen, recipe=recipe, alter=lambda model, processor: (train(model, processor), processor)
    )


def _write(model: "LabVLM", processor: "LabProcessor", directory: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    try:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        try:
            temporary.rename(directory)
        except OSError:
            if not directory.is_dir():  # otherwise another process made the same copy first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
