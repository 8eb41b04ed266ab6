"""The lab: a small real vision-language model that ships with the project, its training and its server."""

from pathlib import Path
from typing import TYPE_CHECKING

from sif_offline.fingerprint.errors import SifError

if TYPE_CHECKING:
    import torch

    from sif_offline.lab.modeling import LabVLM
    from sif_offline.lab.processing import LabProcessor

CHECKPOINTS = Path(__file__).parent / "checkpoints"
LAB_MODELS = ("owner", "innocent-a", "innocent-b", "innocent-c")


class LabModelError(SifError):
    """A lab model that is neither shipped nor a checkpoint directory."""


def lab_model_path(name: str | Path) -> Path:
    """Directory of a shipped model, or the directory itself.

    Raises:
        LabModelError: neither.
    """
    path = CHECKPOINTS / name if str(name) in LAB_MODELS else Path(name)
    if not (path / "config.json").is_file():
        raise LabModelError(
            f"{name}: neither a lab model ({', '.join(LAB_MODELS)}) nor a checkpoint directory"
        )
    return path


def load_lab_model(
    name: str | Path, *, dtype: "torch.dtype | None" = None, **kwargs: object
) -> "tuple[LabVLM, LabProcessor]":
    """A lab model in evaluation mode, and its processor.

    Args:
        name: one of :data:`LAB_MODELS` or a directory that ``save_pretrained`` wrote.
        dtype: of the weights; float32 unless told.
        **kwargs: for ``from_pretrained``, such as ``quantization_config``.

    Raises:
        LabModelError: no such model.
    """
    import torch

    from sif_offline.lab.modeling import LabVLM
    from sif_offline.lab.processing import LabProcessor

    path = lab_model_path(name)
    model = LabVLM.from_pretrained(path, dtype=dtype or torch.float32, **kwargs).eval()
    return model, LabProcessor.from_pretrained(path)


def tiny_lab_model(seed: int = 0) -> "tuple[LabVLM, LabProcessor]":
    """A random-weight lab model of the real classes (width 64, two layers), for tests."""
    from sif_offline.lab.tiny import build_tiny

    return build_tiny(seed)
