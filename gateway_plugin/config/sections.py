"""The sections of the settings beside the checks: combinations, callers, the audit log, overrides."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from gateway_plugin.config.base import FROM_ENVIRONMENT, Strict
from gateway_plugin.config.checks import HitAction

OVERRIDABLE = frozenset(
    {
        "action",
        "asking_calls_per_minute",
        "checks",
        "combine",
        "disclosure",
        "dry_run",
        "reference_calls_per_minute",
        "reference_max_tokens",
        "reference_model",
        "reference_sampling_rate",
        "reference_shares_content",
        "reference_shares_images",
        "reference_timeout_s",
        "transcript",
    }
)


class CombinationSettings(Strict):
    """Several checks together: ``action`` where at least ``at_least`` of ``of`` reached their status.

    ``of`` maps a check to the least status that counts, ``suspect`` or ``hit``.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)]
    of: Annotated[dict[str, Literal["suspect", "hit"]], Field(min_length=1)]
    at_least: Annotated[int, Field(ge=1)] | None = None
    action: HitAction

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.at_least is not None and self.at_least > len(self.of):
            raise ValueError(f"at_least {self.at_least} of {len(self.of)} checks can never be")
        return self


class AllowedCaller(Strict):
    """A caller whose signed requests are not screened (an owner's own probes)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    secret: SecretStr

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        text = self.secret.get_secret_value()
        if not text.startswith(FROM_ENVIRONMENT) and len(text.encode()) < 32:
            raise ValueError("a secret has at least 32 bytes")
        return self


class AuditSettings(Strict):
    """``target``: a file for JSON lines, or an SQLAlchemy URL. ``prompts``: keep prompts and answers too."""

    target: SecretStr  # an URL may hold a password
    prompts: bool = False


class Match(Strict):
    """Whose exchanges an override is for; what is unset matches everybody."""

    team: str | None = None
    key: str | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.team is self.key is self.model is None:
            raise ValueError("name a team, a key or a model")
        return self

    def fits(self, *, teams: frozenset[str], keys: frozenset[str], model: str) -> bool:
        """``teams``, ``keys``: every name they go by (an alias, an id, a hash)."""
        return (
            (self.team is None or self.team in teams)
            and (self.key is None or self.key in keys)
            and self.model in (None, model)
        )


class Override(Strict):
    """Settings that differ for some callers or models. The first that matches holds, alone."""

    match: Match
    settings: dict[str, Any]

    @model_validator(mode="after")
    def _overridable(self) -> Self:
        for name in self.settings:
            if name not in OVERRIDABLE:
                raise ValueError(f"{name} cannot be overridden; what can: {', '.join(sorted(OVERRIDABLE))}")
        return self
