"""How a model of the zoo is made: everything that decides its weights, and nothing else."""

import hashlib
import json
from typing import Optional

from pydantic import BaseModel, ConfigDict, Field

from sif_offline.metav.tasks.base import Part

VERSION = 1
"""Of the methods; a change of one that changes weights raises it, and every model is another one."""


class Recipe(BaseModel):
    """A model in words.

    Attributes:
        task: its name.
        data_sha256: of the task's data.
        kind: ``train``, or an attack of :mod:`sif_offline.metav.zoo.attacks`.
        architecture: of the network, one of the task's.
        part: of the training data.
        seed: the only source of chance.
        settings: of the training or the attack.
        checkpoints: states of the training that are kept beside the last one.
        parent: the model that was stolen; None where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str
    data_sha256: str
    kind: str
    architecture: str
    part: Part
    seed: int = Field(ge=0)
    settings: dict[str, int | float | str] = Field(default_factory=dict)
    checkpoints: int = Field(default=0, ge=0)
    parent: Optional["Recipe"] = None

    @property
    def key(self) -> str:
        """Name of the model's file: hex digest of the recipe."""
        text = json.dumps({"version": VERSION, **self.model_dump(mode="json")}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]
