"""What every part of the configuration shares."""

from pydantic import BaseModel, ConfigDict

from sif_offline.fingerprint.errors import SifError


class GatewayConfigError(SifError, RuntimeError):
    """A setting is wrong; ``str`` is one line that names it.

    A ``RuntimeError`` because LiteLLM swallows a ``ValueError`` from a guardrail's constructor and starts
    without the guardrail.
    """


class Strict(BaseModel):
    """Settings in which an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
