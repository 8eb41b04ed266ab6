"""The base of everything that is written into ``pack.json``."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class FrozenRow(BaseModel):
    """Immutable and strict about names and finite numbers; what a later minor revision adds goes under
    ``extensions``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    extensions: dict[str, Any] = Field(default_factory=dict)


def first_problem(error: ValidationError) -> str:
    """``key.of.the.value: what is wrong with it``, without the value: it may be a secret, or long."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'content'}: {problem['msg']}"
