"""Finds the adapter of a model family: built in, or an entry point of the group ``sifwatch.models``.

An entry point's name is the prefix before the colon; its value is a callable ``load(rest, *, device) ->
VLMAdapter``.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType

from sif_offline.models.base import ModelError, VLMAdapter

ENTRY_POINT_GROUP = "sifwatch.models"
_BUILT_IN: Mapping[str, str] = MappingProxyType({"lab": "sif_offline.models.lab:load"})


def families() -> tuple[str, ...]:
    """Prefixes that :func:`load_adapter` knows, sorted."""
    return tuple(sorted({*_BUILT_IN, *entry_points(group=ENTRY_POINT_GROUP).names}))


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


def _loader(family: str) -> Callable[..., VLMAdapter]:
    if family in _BUILT_IN:
        module, _, function = _BUILT_IN[family].partition(":")
        loader: Callable[..., VLMAdapter] = getattr(import_module(module), function)
        return loader
    (found,) = entry_points(group=ENTRY_POINT_GROUP, name=family)
    return found.load()  # type: ignore[no-any-return] # the contract of the group
