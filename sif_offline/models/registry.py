"""Finds the adapter of a model family: built in, or an entry point of the group ``sifwatch.models``.

An entry point's name is the prefix before the colon; its value is a callable ``load(rest, *, device) ->
VLMAdapter``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from sif_offline.models.base import ModelError, VLMAdapter

ENTRY_POINT_GROUP = "sifwatch.models"
BUILT_IN_BY = "sifwatch"


@dataclass(frozen=True)
class Family:
    """What ``sif models list`` says of a family, without importing it.

    Args:
        name: prefix before the colon.
        loader: ``module:callable`` that loads one.
        models: which models it is for, in words.
        examples: what to write.
        backend: whose pixels its preprocessing gives; empty where only the loaded adapter knows.
        loaded_by: the distribution that brings it.
        weightless: whether its loader takes ``device="meta"``: pixels and prompts without the weights.
    """

    name: str
    loader: str
    models: str
    examples: tuple[str, ...]
    backend: str = "pil"
    loaded_by: str = BUILT_IN_BY
    weightless: bool = True


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(
                "lab",
                "sif_offline.models.lab:load",
                "the small model that ships with the project",
                ("lab:owner", "lab:innocent-a", "lab:/a/checkpoint"),
                weightless=False,
            ),
            Family(
                "llava",
                "sif_offline.models.hf.llava:LlavaAdapter.load",
                "LLaVA-1.5",
                ("llava:llava-hf/llava-1.5-7b-hf", "llava:/a/checkpoint"),
            ),
            Family(
                "llava-next",
                "sif_offline.models.hf.llava_next:LlavaNextAdapter.load",
                "LLaVA-NeXT (LLaVA-1.6)",
                ("llava-next:llava-hf/llava-v1.6-mistral-7b-hf",),
            ),
            Family(
                "llava-onevision",
                "sif_offline.models.hf.llava_next:LlavaOnevisionAdapter.load",
                "LLaVA-OneVision",
                ("llava-onevision:llava-hf/llava-onevision-qwen2-7b-ov-hf",),
            ),
            Family(
                "gemma3",
                "sif_offline.models.hf.gemma3:Gemma3Adapter.load",
                "Gemma 3 with pictures (4B and above), pan-and-scan off",
                ("gemma3:google/gemma-3-4b-it",),
            ),
            Family(
                "qwen2-vl",
                "sif_offline.models.hf.qwen:Qwen2VLAdapter.load",
                "Qwen2-VL",
                ("qwen2-vl:Qwen/Qwen2-VL-7B-Instruct",),
            ),
            Family(
                "qwen2.5-vl",
                "sif_offline.models.hf.qwen:Qwen25VLAdapter.load",
                "Qwen2.5-VL",
                ("qwen2.5-vl:Qwen/Qwen2.5-VL-7B-Instruct",),
            ),
            Family(
                "qwen3-vl",
                "sif_offline.models.hf.qwen:Qwen3VLAdapter.load",
                "Qwen3-VL (dense)",
                ("qwen3-vl:Qwen/Qwen3-VL-8B-Instruct",),
            ),
            Family(
                "internvl",
                "sif_offline.models.hf.internvl:InternVLAdapter.load",
                "InternVL, the HF port (names that end in -hf)",
                ("internvl:OpenGVLab/InternVL3-8B-hf",),
            ),
            Family(
                "idefics3",
                "sif_offline.models.hf.idefics:Idefics3Adapter.load",
                "Idefics3, and the first SmolVLM",
                ("idefics3:HuggingFaceM4/Idefics3-8B-Llama3", "idefics3:HuggingFaceTB/SmolVLM-Instruct"),
            ),
            Family(
                "smolvlm",
                "sif_offline.models.hf.idefics:SmolVLMAdapter.load",
                "SmolVLM2",
                ("smolvlm:HuggingFaceTB/SmolVLM2-500M-Video-Instruct",),
            ),
        )
    }
)
"""The families that are built in."""


def families() -> tuple[str, ...]:
    """Prefixes that :func:`load_adapter` knows, sorted."""
    return tuple(family.name for family in describe_families())


def describe_families() -> tuple[Family, ...]:
    """All families, sorted by name; a built-in one is never replaced by an entry point."""
    foreign = {found.name: _foreign(found) for found in entry_points(group=ENTRY_POINT_GROUP)}
    known = {**foreign, **FAMILIES}
    return tuple(known[name] for name in sorted(known))


def load_adapter(spec: str, *, device: str = "cpu") -> VLMAdapter:
    """Load the model that ``spec`` names, frozen and in evaluation mode.

    Args:
        spec: ``family:model``, such as ``lab:owner`` or ``lab:/a/checkpoint/directory``.
        device: a torch device.

    Raises:
        ModelError: no such family, or the family cannot load the model.
    """
    family, colon, rest = spec.partition(":")
    if not colon or not rest or family not in families():
        raise ModelError(f"model {spec!r}: want FAMILY:MODEL with FAMILY one of {', '.join(families())}")
    return _loader(family)(rest, device=device)


def load_preparation(spec: str) -> VLMAdapter:
    """The adapter that ``spec`` names, for its pixels and prompts alone: without weights where it can be.

    Raises:
        ModelError: as :func:`load_adapter` does.
    """
    family = FAMILIES.get(spec.partition(":")[0])
    return load_adapter(spec, device="meta" if family and family.weightless else "cpu")


def _loader(family: str) -> Callable[..., VLMAdapter]:
    if family in FAMILIES:
        module, _, names = FAMILIES[family].loader.partition(":")
        return reduce(getattr, names.split("."), import_module(module))  # type: ignore[return-value]
    (found,) = entry_points(group=ENTRY_POINT_GROUP, name=family)
    return found.load()  # type: ignore[no-any-return] # the contract of the group


def _foreign(found: EntryPoint) -> Family:
    return Family(
        name=found.name,
        loader=found.value,
        models="",
        examples=(f"{found.name}:MODEL",),
        backend="",
        loaded_by=found.dist.name if found.dist else "",
        weightless=False,
    )
