"""The operator's settings: everything of ours under one key, ``gateway_plugin``, of ``litellm_params``."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway_plugin.config.base import Strict
from gateway_plugin.config.checks import Checks, CheckSettings, HitAction, JudgeSettings
from gateway_plugin.config.sections import AllowedCaller, AuditSettings, CombinationSettings, Override
from gateway_plugin.screening.base import Phase, Status
from gateway_plugin.screening.policy import Action, Combination, OnFailure, Policy, Rule


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
    asking_calls_per_minute: Annotated[int, Field(ge=1)] | None = None
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
        """The model aliases that are asked, by the setting that names them."""
        named = {"reference_model": self.reference_model} | {
            f"checks.{name}.model": check.model
            for name, check in self.each().items()
            if isinstance(check, JudgeSettings)
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
