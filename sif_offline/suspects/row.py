"""A suspect as a suite's YAML declares it."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from sif_offline.suspects.base import SuspectError
from sif_offline.suspects.registry import parse_step
from sif_offline.suspects.serving import Serving, first_fault


class SuspectRow(BaseModel):
    """One suspect: a model, what was done to its weights, and how it is served.

    Attributes:
        name: unique in its suite; what tables call it.
        source: model spec such as ``lab:innocent-a`` or ``llava:/a/folder``; None is the suite's owner.
        weights: alterations in their order, each ``name``, ``name:number`` or ``name:number@model`` of
            :data:`~sif_offline.suspects.SUSPECTS`.
        serving: what happens at the endpoint.
        seed: of everything that is drawn, for the weights and at the endpoint.
        stolen: what the truth is; False: an unrelated model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    source: str | None = Field(default=None, pattern=r"^[\w.-]+:.+$")
    weights: tuple[str, ...] = ()
    serving: Serving = Serving()
    seed: int = Field(default=0, ge=0)
    stolen: bool = True

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: tuple[str, ...]) -> tuple[str, ...]:
        for part in weights:
            try:
                parse_step(part)
            except SuspectError as error:
                raise ValueError(str(error)) from None
        return weights


_ROWS = TypeAdapter(tuple[SuspectRow, ...])


def read_rows(path: Path) -> tuple[SuspectRow, ...]:
    """The list under ``suspects`` of a YAML file.

    Raises:
        SuspectError: unreadable, or a row is wrong; names the file, the row and the field.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SuspectError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(loaded, dict) or "suspects" not in loaded:
        raise SuspectError(f"{path}: has no list 'suspects'")
    try:
        rows = _ROWS.validate_python(loaded["suspects"])
    except ValidationError as error:
        raise SuspectError(f"{path}: suspects.{first_fault(error)}") from None
    names = [row.name for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SuspectError(f"{path}: two suspects are called {twice!r}")
    return rows
