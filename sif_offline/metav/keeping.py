"""The state of a training in a file, so that a run that was killed goes on and ends in the same bytes."""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.metav.verifier import read_verifier
from sif_offline.fingerprint.pack_files import PackError
from sif_offline.metav.settings import MetaVSettings
from sif_offline.metav.train import Trained, Training
from sif_offline.metav.zoo import Zoo

STATE = "training.safetensors"
KEEP_EVERY_S = 5.0
"""Seconds between two writes at least: what a kill costs, and one check of the validation models."""
VERSION = 2
"""Of the training's method and of the file; a change of either raises it, and older work is refused."""


class TrainingStateError(SifError):
    """A kept training that cannot be read or written; names the file."""


def training_job(zoo: Zoo, settings: MetaVSettings, *, device: str) -> dict[str, Any]:
    """Everything that decides what a training ends in, as JSON values."""
    return {
        "kind": "metav-training",
        "version": VERSION,
        "models": [(row.role, row.split, row.recipe.key) for row in zoo.members],
        "settings": settings.for_outputs(zoo.task.output.kind).model_dump(mode="json"),
        "device": torch.device(device).type,
    }


class TrainingFile:
    """Keeps one training in ``folder``: queries, verifier, optimiser, generator and the best state so far.

    One safetensors file, written beside its place and renamed to it, so that it is there whole or not at all.

    Args:
        folder: that belongs to this training alone (:func:`training_job` says to which).
        every_s: seconds between two writes, at least.
    """

    def __init__(self, folder: Path, *, every_s: float = KEEP_EVERY_S) -> None:
        self._path, self._every_s = folder / STATE, every_s
        self._written = time.monotonic()

    def keep(self, training: Training) -> None:
        """See :class:`~sif_offline.metav.train.Keeper`. Raises ``TrainingStateError``: it is not written."""
        if time.monotonic() - self._written < self._every_s:
            return
        best = training.best
        tensors = {
            "generator": training.generator.get_state(),
            "best.queries": torch.from_numpy(best.queries),
            "best.verifier": torch.frombuffer(bytearray(best.verifier.to_safetensors()), dtype=torch.uint8),
        }
        for name, module in (("queries", training.queries), ("verifier", training.verifier)):
            tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for number, values in training.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{key}": value for key, value in values.items()}
        said = {
            "step": training.step,
            "stale": training.stale,
            "best": {"step": best.step, "loss": best.validation_loss, "models": best.models},
        }
        beside = self._path.with_suffix(".part")
        try:
            save_file(
                {name: value.contiguous() for name, value in tensors.items()},
                beside,
                metadata={"training": json.dumps(said)},
            )
            os.replace(beside, self._path)
        except (OSError, SafetensorError) as error:
            raise TrainingStateError(f"{self._path}: cannot be written ({error})") from None
        self._written = time.monotonic()

    def restore(self, training: Training) -> None:
        """See :class:`~sif_offline.metav.train.Keeper`. Raises ``TrainingStateError``: it is damaged."""
        if not self._path.exists():
            return
        try:
            with safe_open(self._path, framework="pt") as file:
                said = json.loads(file.metadata()["training"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            training.queries.load_state_dict(_under("queries.", tensors))
            training.verifier.load_state_dict(_under("verifier.", tensors))
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in _under("optimiser.", tensors).items():
                number, _, key = name.partition(".")
                moments.setdefault(int(number), {})[key] = value
            groups = training.optimiser.state_dict()["param_groups"]
            training.optimiser.load_state_dict({"state": moments, "param_groups": groups})
            training.generator.set_state(tensors["generator"])
            training.best = _best(said, tensors, training)
            training.step, training.stale = int(said["step"]), int(said["stale"])
        except (
            OSError,
            SafetensorError,
            PackError,
            LookupError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            why = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise TrainingStateError(
                f"{self._path}: holds no training of this kind ({why}); remove it to begin anew"
            ) from None


def _best(said: dict[str, Any], tensors: dict[str, Tensor], training: Training) -> Trained:
    verifier, queries = training.verifier, tensors["best.queries"].numpy()
    return Trained(
        queries=queries,
        verifier=read_verifier(
            tensors["best.verifier"].numpy().tobytes(),
            form=verifier.form,
            activation=verifier.activation,
            transform=verifier.transform,
            queries=len(queries),
            size=verifier.mean.shape[-1],
        ),
        step=int(said["best"]["step"]),
        validation_loss=float(said["best"]["loss"]),
        steps=int(said["step"]),
        models=int(said["best"]["models"]),
    )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
