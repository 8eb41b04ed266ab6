"""The base of everything that is written into ``pack.json``."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class FrozenRow(BaseModel):
    """Immutable and strict about names and finite numbers; what a later minor revision adds goes under
    ``extensions``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    extensions: dict[str, Any] = Field(default_factory=dict)
