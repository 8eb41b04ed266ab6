"""Finds a rival by name: built in, or an entry point of the group ``sifwatch.baselines``."""

from collections.abc import Mapping
from functools import reduce
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from sif_offline.baselines.base import BaselineError, FingerprintMethod
from sif_offline.fingerprint.schema import first_problem

ENTRY_POINT_GROUP = "sifwatch.baselines"

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "cropa": "sif_offline.baselines.cropa:CroPA",
        "di2-fgsm": "sif_offline.baselines.di2fgsm:DI2FGSM",
        "instruction": "sif_offline.baselines.instruction:InstructionFingerprint",
        "ordinary": "sif_offline.baselines.ordinary:Ordinary",
        "pla": "sif_offline.baselines.pla:PLA",
        "proflingo": "sif_offline.baselines.proflingo:ProFLingo",
        "rna": "sif_offline.baselines.rna:RNA",
    }
)
"""Name -> ``module:class`` of those that are built in."""


def method_names() -> tuple[str, ...]:
    """All names that :func:`make_method` knows, sorted."""
    return tuple(sorted({*METHODS, *(found.name for found in entry_points(group=ENTRY_POINT_GROUP))}))


def make_method(name: str, settings: BaseModel | Mapping[str, Any] | None = None) -> FingerprintMethod:
    """The method of that name.

    Args:
        name: one of :func:`method_names`; a built-in one is never replaced by an entry point.
        settings: an instance of its ``settings_class``, or values for it; what is not named keeps its
            default.

    Raises:
        BaselineError: no such method or setting, or a value that a setting does not take.
    """
    method = _method_class(name)
    if settings is None or isinstance(settings, BaseModel):
        return method(settings)  # type: ignore[no-any-return] # the contract of the group
    try:
        return method(method.settings_class.model_validate(settings))  # type: ignore[no-any-return]
    except ValidationError as error:
        raise BaselineError(f"{name}: setting {first_problem(error)}") from None


def _method_class(name: str) -> Any:
    if name in METHODS:
        module, _, names = METHODS[name].partition(":")
        return reduce(getattr, names.split("."), import_module(module))
    for found in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return found.load()
    raise BaselineError(f"baseline {name!r}: not one of {', '.join(method_names())}")
