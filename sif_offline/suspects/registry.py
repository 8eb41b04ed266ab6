"""The suspects by name: ``4bit``, ``finetune:100``, chained with a plus sign: ``finetune:100+4bit``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from sif_offline.suspects.base import Alteration, Progress, Stolen, SuspectError


ANY = 2**31
"""A number without an upper limit of its own."""


@dataclass(frozen=True)
class Entry:
    """One row: where the alteration lives, what its number means, and the number when none is given.

    ``unit`` is empty for an alteration that takes no number, ``partner`` says what may stand behind an ``@``.
    """

    path: str
    summary: str
    unit: str = ""
    default: int = 0
    most: int = ANY
    partner: str = ""

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


def make_suspect(
    spec: str | Sequence[str], source: str | Path, *, seed: int = 0, progress: Progress | None = None
) -> Stolen:
    """The suspect that ``spec`` names, made of the lab model or checkpoint directory ``source``.

    Args:
        spec: names of :data:`SUSPECTS` joined by ``+``, or a sequence of them, each with ``:number`` where it
            takes one and ``@model`` where it takes another model; empty = an untouched copy.
        source: a lab model's name or a directory.
        seed: of everything that is drawn.
        progress: called after each step of training; never where the trained copy is found in the cache.

    Raises:
        SuspectError: no such suspect, or a number that makes no sense for it.
        LabModelError: no such model.
    """
    parts = (spec.split("+") if spec else []) if isinstance(spec, str) else spec
    steps = [parse_step(part) for part in parts]
    stolen = Stolen.of(source)
    for step in steps:
        stolen = step.load()(stolen, setting=step.setting, seed=seed, progress=progress)
    return stolen


@dataclass(frozen=True)
class Step:
    """One alteration as it was asked for."""

    name: str
    setting: int
    partner: str = ""

    def load(self) -> Alteration:
        """The alteration, its other model filled in."""
        alteration = SUSPECTS[self.name].load()
        return partial(alteration, partner=self.partner) if self.partner else alteration


def parse_step(part: str) -> Step:
    """``name``, ``name:number`` or ``name:number@model``. Raises ``SuspectError``."""
    head, at, partner = part.partition("@")
    name, colon, number = head.partition(":")
    if name not in SUSPECTS:
        raise SuspectError(f"suspect {part!r}: not one of {', '.join(SUSPECTS)}")
    entry = SUSPECTS[name]
    if at and not (entry.partner and partner):
        raise SuspectError(f"suspect {part!r}: {name} takes {entry.partner or 'no other model'} behind the @")
    if not colon:
        return Step(name, entry.default, partner)
    if not entry.unit:
        raise SuspectError(f"suspect {part!r}: {name} takes no number")
    valid = number.isascii() and number.isdecimal() and 0 < int(number) <= entry.most
    if not valid:
        limit = f" up to {entry.most}" if entry.most < ANY else ""
        raise SuspectError(f"suspect {part!r}: {number!r} is no number of {entry.unit}{limit}")
    return Step(name, int(number), partner)
