"""What every part of the configuration shares."""

import os

from pydantic import BaseModel, ConfigDict, SecretStr

from sif_offline.fingerprint.errors import SifError


class GatewayConfigError(SifError, RuntimeError):
    """A setting is wrong; ``str`` is one line that names it.

    A ``RuntimeError`` because LiteLLM swallows a ``ValueError`` from a guardrail's constructor and starts
    without the guardrail.
    """


class Strict(BaseModel):
    """Settings in which an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


FROM_ENVIRONMENT = "os.environ/"  # LiteLLM's way to name a variable in its configuration


def secret_text(value: SecretStr, *, where: str) -> str:
    """The value, looked up where it is ``os.environ/NAME``. Raises :class:`GatewayConfigError` if unset."""
    text = value.get_secret_value()
    if not text.startswith(FROM_ENVIRONMENT):
        return text
    name = text.removeprefix(FROM_ENVIRONMENT)
    found = os.environ.get(name, "").strip()
    if not found:
        raise GatewayConfigError(f"{where}: environment variable {name} is not set")
    return found
