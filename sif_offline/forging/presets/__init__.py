"""Named settings, one YAML file each, with the source of every value.

A file holds ``summary`` and ``settings``: name -> ``{value, source}``. What a file does not name keeps the
default of :class:`~sif_offline.forging.settings.ForgeSettings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import ValidationError

from sif_offline.forging.settings import ForgeSettings, SettingsError


@dataclass(frozen=True)
class Preset:
    """One file.

    Args:
        name: of the file.
        summary: one line.
        values: setting -> value, as YAML has it.
        sources: setting -> where the value comes from.
    """

    name: str
    summary: str
    values: Mapping[str, Any]
    sources: Mapping[str, str]


def preset_names() -> tuple[str, ...]:
    """All presets, sorted."""
    found = files(__name__).iterdir()
    return tuple(sorted(file.name[: -len(".yaml")] for file in found if file.name.endswith(".yaml")))


@cache
def load_preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        SettingsError: no such preset.
    """
    if name not in preset_names():
        raise SettingsError(f"preset {name}: there is none; choose from {', '.join(preset_names())}")
    loaded = yaml.safe_load(files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    rows: Mapping[str, Mapping[str, Any]] = loaded["settings"]
    return Preset(
        name=name,
        summary=str(loaded["summary"]),
        values={setting: row["value"] for setting, row in rows.items()},
        sources={setting: str(row["source"]) for setting, row in rows.items()},
    )


def preset_settings(name: str | None = None, overrides: Mapping[str, Any] | None = None) -> ForgeSettings:
    """Settings of a preset with changes.

    Args:
        name: of the preset; None is the defaults.
        overrides: setting -> value in place of the preset's. A string is read as a user types it: ``5``,
            ``false``, ``[60, 75]`` and ``60,75`` become what the setting wants.

    Raises:
        SettingsError: no such preset or setting, or a value that a setting does not take.
    """
    values: dict[str, Any] = dict(load_preset(name).values) if name else {}
    values |= {setting: _typed(setting, value) for setting, value in (overrides or {}).items()}
    try:
        return ForgeSettings.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise SettingsError(f"setting {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def _typed(setting: str, value: Any) -> Any:
    """A list setting's string as a list of its items; pydantic reads every other string itself."""
    field = ForgeSettings.model_fields.get(setting)
    if not isinstance(value, str) or field is None or not isinstance(field.get_default(), tuple):
        return value
    if setting == "prompts":  # a comma is part of the words
        return [value]
    items = value.strip().removeprefix("[").removesuffix("]").split(",")
    return [item.strip() for item in items if item.strip()]
