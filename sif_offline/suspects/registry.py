"""The suspects by name: ``4bit``, ``finetune:100``, chained with a plus sign: ``finetune:100+4bit``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from sif_offline.suspects.base import Alteration, Progress, Stolen, SuspectError

ANY = 2**31
"""A number without an upper limit of its own."""


_LIKE_SHAPE = "a model of the same shape and vocabulary, or a suspect of the same source"


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


_OWN = "sif_offline.suspects"
SUSPECTS: Mapping[str, Entry] = MappingProxyType(
    {
        "4bit": Entry(f"{_OWN}.quantize:to_4bit", "bitsandbytes NF4 weights"),
        "fp4": Entry(f"{_OWN}.quantize:to_fp4", "bitsandbytes FP4 weights"),
        "8bit": Entry(f"{_OWN}.quantize:to_8bit", "bitsandbytes LLM.int8() weights"),
        "finetune": Entry(f"{_OWN}.finetune:finetuned", "all decoder weights trained on", "steps", 100),
        "lora": Entry(f"{_OWN}.lora:lora_merged", "LoRA trained, then merged", "steps", 100),
        "narrow": Entry(f"{_OWN}.narrow:narrowed", "fine-tuned on bar charts alone", "steps", 100),
        "prune": Entry(
            f"{_OWN}.prune:pruned", "smallest weights of each linear layer zeroed", "percent", 30, most=95
        ),
        "merge": Entry(
            f"{_OWN}.merge:merged", "linear mean with another model", "percent of it", 50, 99, _LIKE_SHAPE
        ),
        "slerp": Entry(
            f"{_OWN}.merge:slerp_merged", "spherical mean with another model", "percent of it", 50, 99,
            _LIKE_SHAPE,
        ),
        "vocab-pad": Entry(f"{_OWN}.vocabulary:padded", "rows added to the embedding", "rows", 64, 2**16),
        "vocab-drop": Entry(f"{_OWN}.vocabulary:dropped", "rarest tokens dropped", "percent", 25, 95),
        "vocab-permute": Entry(f"{_OWN}.vocabulary:permuted", "token ids permuted"),
        "distil": Entry(
            f"{_OWN}.distil:distilled", "another architecture taught its answers", "steps", 100,
            partner="a lab model or directory of another architecture",
        ),
        "erase-noise": Entry(
            f"{_OWN}.erase:erased_by_noise", "own answers taught to noisy pictures", "steps", 50
        ),
        "erase-paraphrase": Entry(
            f"{_OWN}.erase:erased_by_paraphrase", "own answers, reworded, taught", "steps", 50
        ),
        "erase-reset": Entry(
            f"{_OWN}.erase:erased_by_reset", "last blocks drawn anew and taught again", "steps", 300
        ),
    }
)  # fmt: skip


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
        alteration: Callable[..., Stolen] = SUSPECTS[self.name].load()
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
