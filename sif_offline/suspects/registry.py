"""The suspects by name: ``4bit``, ``finetune:100``, chained with a plus sign: ``finetune:100+4bit``."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from sif_offline.suspects.base import Alteration, Progress, Stolen, SuspectError


@dataclass(frozen=True)
class Entry:
    """One row: where the alteration lives, what its number means, and the number when none is given.

    ``unit`` is empty for an alteration that takes no number.
    """

    path: str
    summary: str
    unit: str = ""
    default: int = 0

    def load(self) -> Alteration:
        """Import it: training and quantisation are slow to import and often not needed."""
        module, _, name = self.path.partition(":")
        alteration: Alteration = getattr(import_module(module), name)
        return alteration


SUSPECTS: Mapping[str, Entry] = MappingProxyType(
    {
        "4bit": Entry("sif_offline.suspects.quantize:to_4bit", "bitsandbytes NF4 weights"),
        "8bit": Entry("sif_offline.suspects.quantize:to_8bit", "bitsandbytes LLM.int8() weights"),
        "finetune": Entry(
            "sif_offline.suspects.finetune:finetuned", "all decoder weights trained on", "steps", 100
        ),
        "lora": Entry("sif_offline.suspects.lora:lora_merged", "LoRA trained, then merged", "steps", 100),
    }
)


def make_suspect(spec: str, source: str | Path, *, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """The suspect that ``spec`` names, made of the lab model or checkpoint directory ``source``.

    Args:
        spec: names of :data:`SUSPECTS` joined by ``+``, each with ``:number`` where it takes one; empty =
            an untouched copy.
        source: a lab model's name or a directory.
        seed: of everything that is drawn.
        progress: called after each step of training; never where the trained copy is found in the cache.

    Raises:
        SuspectError: no such suspect, or a number that makes no sense for it.
        LabModelError: no such model.
    """
    steps = [_parse(part) for part in spec.split("+")] if spec else []
    stolen = Stolen.of(source)
    for entry, setting in steps:
        stolen = entry.load()(stolen, setting=setting, seed=seed, progress=progress)
    return stolen


def _parse(part: str) -> tuple[Entry, int]:
    name, colon, number = part.partition(":")
    if name not in SUSPECTS:
        raise SuspectError(f"suspect {part!r}: not one of {', '.join(SUSPECTS)}")
    entry = SUSPECTS[name]
    if not colon:
        return entry, entry.default
    if not entry.unit:
        raise SuspectError(f"suspect {part!r}: {name} takes no number")
    if not (number.isascii() and number.isdecimal() and int(number) > 0):
        raise SuspectError(f"suspect {part!r}: {number!r} is no number of {entry.unit}")
    return entry, int(number)
