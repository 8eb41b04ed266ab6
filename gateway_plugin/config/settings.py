"""The operator's settings: everything of ours under one key, ``gateway_plugin``, of ``litellm_params``."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from gateway_plugin.config.base import FROM_ENVIRONMENT, Strict
from gateway_plugin.config.checks import Checks, CheckSettings, HitAction
from gateway_plugin.screening.base import Phase, Status
from gateway_plugin.screening.policy import Action, Combination, OnFailure, Policy, Rule

OVERRIDABLE = frozenset(
    {
        "action",
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


class GatewaySettings(Strict):
    """Everything under ``gateway_plugin``; docs/gateway.md says what each is for.

    reference_model: alias in the proxy's ``model_list`` that answers beside the main model.
    reference_timeout_s: how long an answer waits for it, counted from the start of the reference call.
    reference_sampling_rate: share of exchanges whose answer is compared, in [0, 1].
    reference_shares_content: whether a reference that is not local may be sent what users write;
        reference_shares_images the same for pictures.
    reference_is_local: unset means "by the address of the alias".
    screening_timeout_s: how long a request waits for its scores before the check counts as failed.
    state_ttl_s, max_calls: how long and for how many calls the two phases are remembered.
    """

    preset: Literal["paper", "strict"] | None = None
    reference_model: str | None = None
    reference_timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    reference_max_tokens: Annotated[int, Field(ge=1, le=32768)] = 512
    reference_sampling_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    reference_calls_per_minute: Annotated[int, Field(ge=1)] | None = None
    reference_shares_content: bool = False
    reference_shares_images: bool = False
    reference_is_local: bool | None = None
    action: HitAction = "flag"
    dry_run: bool = False
    checks: Checks = Checks()
    combine: tuple[CombinationSettings, ...] = ()
    transcript: Literal["unseen", "last"] = "unseen"
    disclosure: Literal["full", "audit_id", "none"] = "full"
    allow_list: tuple[AllowedCaller, ...] = ()
    audit: AuditSettings | None = None
    overrides: tuple[Override, ...] = ()
    screening_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    max_queue: Annotated[int, Field(ge=1, le=65536)] = 256
    state_ttl_s: Annotated[float, Field(gt=0)] = 900.0
    max_calls: Annotated[int, Field(ge=1)] = 10_000

    def each(self) -> Mapping[str, CheckSettings]:
        """The enabled checks by name."""
        return self.checks.each()

    def aliases(self) -> dict[str, str]:
        """The model aliases that the settings name, by the setting."""
        named = {
            "reference_model": self.reference_model,
            "checks.judge.model": self.checks.judge.model,
            "checks.judge_query.model": self.checks.judge_query.model,
        }
        return {setting: alias for setting, alias in named.items() if alias is not None}

    def action_of(self, check: CheckSettings) -> Action:
        return Action(check.action or self.action)

    @property
    def replaces(self) -> bool:
        return any(self.action_of(check) is Action.REPLACE for check in self.each().values()) or any(
            row.action == "replace" for row in self.combine
        )

    @property
    def may_hold_answers_back(self) -> bool:
        """Whether an answer can be blocked or replaced, so that a stream must be held until it is judged."""
        if self.dry_run:
            return False
        rules = self.policy().rules
        late = [rules[name] for name, check in self.each().items() if Phase.RESPONSE in check.phases]
        return (
            self.replaces
            or any(row.action == "block" for row in self.combine)
            or any(
                Action.BLOCK in {rule.action, rule.on_suspect, rule.on_unscorable}
                or rule.on_failure is OnFailure.CLOSED
                for rule in late
            )
        )

    def policy(self) -> Policy:
        return Policy(
            rules={
                name: Rule(
                    action=self.action_of(check),
                    on_suspect=Action(check.on_suspect),
                    on_unscorable=Action(check.on_unscorable),
                    on_failure=OnFailure(check.on_failure),
                )
                for name, check in self.each().items()
            },
            combinations=tuple(
                Combination(
                    name=row.name,
                    of={check: Status(least) for check, least in row.of.items()},
                    at_least=row.at_least or len(row.of),
                    action=Action(row.action),
                )
                for row in self.combine
            ),
        )

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        enabled = self.each()
        if not enabled:
            raise ValueError("every check is switched off")
        for row in self.combine:
            for check in row.of:
                if check not in enabled:
                    raise ValueError(f"combine: {row.name!r} names {check!r}, which is no enabled check")
            if row.name in enabled:
                raise ValueError(f"combine: {row.name!r} is the name of a check")
        if self.reference_model is None:
            if "divergence" in enabled:
                raise ValueError(
                    "the divergence check needs reference_model (or checks.divergence.enabled: false)"
                )
            if self.replaces:
                raise ValueError("action replace needs reference_model")
        return self
