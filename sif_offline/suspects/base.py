"""What every suspect is: a stolen checkpoint, and how the thief changed it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sif_offline.fingerprint.errors import SifError
from sif_offline.lab import lab_model_path, load_lab_model

if TYPE_CHECKING:
    from sif_offline.lab.modeling import LabVLM
    from sif_offline.lab.processing import LabProcessor


Progress = Callable[[int, int, float], None]
"""progress(done, steps, loss in nats a token)."""


class SuspectError(SifError):
    """A suspect that does not exist, or a setting that it does not know."""


@dataclass(frozen=True)
class Stolen:
    """A checkpoint directory, and the ``from_pretrained`` options the thief loads it with."""

    directory: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str | Path) -> "Stolen":
        """The untouched copy of a lab model, by name or directory. Raises ``LabModelError``."""
        return cls(lab_model_path(name))

    def load(self) -> "tuple[LabVLM, LabProcessor]":
        """The model in evaluation mode, and its processor. Raises ``SuspectError``: a broken checkpoint."""
        try:
            return load_lab_model(self.directory, **self.options)
        except SifError:
            raise
        except Exception as error:  # a broken checkpoint fails in any of four libraries
            why = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise SuspectError(f"{self.directory}: cannot be loaded: {why}") from error


class Alteration(Protocol):
    """One thing that a pirate does to a model. Alterations chain: what one returns the next one takes."""

    def __call__(
        self, stolen: Stolen, *, setting: int, seed: int, progress: Progress | None = None
    ) -> Stolen:
        """The altered copy; ``stolen`` itself is left as it is.

        Args:
            stolen: what to alter.
            setting: how strongly: steps of training, or whatever the alteration says in the registry.
            seed: the only source of chance.
            progress: called after each step of one that trains.
        """
        ...
