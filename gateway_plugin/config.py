"""The operator's settings: everything of ours under one key, ``gateway_plugin``, of ``litellm_params``.

LiteLLM swallows a ``ValueError`` from a guardrail's constructor and starts without the guardrail, so a
wrong setting is raised as :class:`GatewayConfigError`, a ``RuntimeError``, which stops the start.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway_plugin.screening.divergence import DivergenceThresholds
from gateway_plugin.screening.perplexity import PerplexityThresholds
from gateway_plugin.screening.policy import Action, OnFailure, Policy, Rule
from sif_offline.fingerprint.errors import SifError

KEY = "gateway_plugin"
GUARDRAIL = "gateway_plugin.litellm_guardrail.SDAGuardrail"
MODES = ("pre_call", "post_call")

HitAction = Literal["log", "flag", "block", "replace"]
MildAction = Literal["allow", "log", "flag", "block"]


class GatewayConfigError(SifError, RuntimeError):
    """A setting is wrong; ``str`` is one line that names it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckSettings(_Strict):
    """Settings that every check has. ``action`` unset means the guardrail's own ``action``."""

    enabled: bool = True
    action: HitAction | None = None
    on_suspect: MildAction = "flag"
    on_unscorable: MildAction = "flag"
    on_failure: Literal["open", "closed"] = "open"


class PerplexitySettings(CheckSettings):
    """``max_tokens``: of a longer text the two ends are scored and the finding says so."""

    suspect_window: float = PerplexityThresholds.suspect_window
    hit_window: float = PerplexityThresholds.hit_window
    suspect_whole: float = PerplexityThresholds.suspect_whole
    max_tokens: Annotated[int, Field(ge=64, le=8192)] = 1024

    def thresholds(self) -> PerplexityThresholds:
        return PerplexityThresholds(
            suspect_window=self.suspect_window, hit_window=self.hit_window, suspect_whole=self.suspect_whole
        )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        self.thresholds()
        return self


class ScriptMixingSettings(CheckSettings):
    """Script changes within 32 characters."""

    suspect_changes: Annotated[int, Field(ge=1)] = 11
    hit_changes: Annotated[int, Field(ge=1)] = 13


class DivergenceSettings(CheckSettings):
    """See :class:`~gateway_plugin.screening.divergence.DivergenceThresholds`."""

    suspect_cosine: float = DivergenceThresholds.suspect_cosine
    hit_cosine: float = DivergenceThresholds.hit_cosine
    max_jaccard: float = DivergenceThresholds.max_jaccard
    suspect_word_ratio: float = DivergenceThresholds.suspect_word_ratio

    def thresholds(self) -> DivergenceThresholds:
        return DivergenceThresholds(
            suspect_cosine=self.suspect_cosine,
            hit_cosine=self.hit_cosine,
            max_jaccard=self.max_jaccard,
            suspect_word_ratio=self.suspect_word_ratio,
        )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        self.thresholds()
        return self


class Checks(_Strict):
    perplexity: PerplexitySettings = PerplexitySettings()
    script_mixing: ScriptMixingSettings = ScriptMixingSettings()
    divergence: DivergenceSettings = DivergenceSettings()


class GatewaySettings(_Strict):
    """Everything under ``gateway_plugin``.

    reference_model: alias in the proxy's ``model_list`` that answers beside the main model.
    reference_timeout_s: how long an answer waits for it, counted from the start of the reference call.
    screening_timeout_s: how long a request waits for its scores before the check counts as failed.
    state_ttl_s, max_calls: how long and for how many calls the two phases are remembered.
    """

    reference_model: str | None = None
    action: HitAction = "flag"
    checks: Checks = Checks()
    reference_timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    reference_max_tokens: Annotated[int, Field(ge=1, le=32768)] = 512
    screening_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    max_queue: Annotated[int, Field(ge=1, le=65536)] = 256
    state_ttl_s: Annotated[float, Field(gt=0)] = 900.0
    max_calls: Annotated[int, Field(ge=1)] = 10_000

    def each(self) -> dict[str, CheckSettings]:
        """The enabled checks by name."""
        everything: dict[str, CheckSettings] = dict(self.checks)
        return {name: settings for name, settings in everything.items() if settings.enabled}

    def action_of(self, check: CheckSettings) -> Action:
        return Action(check.action or self.action)

    @property
    def replaces(self) -> bool:
        return any(self.action_of(check) is Action.REPLACE for check in self.each().values())

    @property
    def may_hold_answers_back(self) -> bool:
        """Whether an answer can be blocked or replaced, so that a stream must be held until it is judged."""
        rules = self.policy().rules
        divergence = rules.get("divergence")
        return self.replaces or (
            divergence is not None
            and (
                Action.BLOCK in {divergence.action, divergence.on_suspect, divergence.on_unscorable}
                or divergence.on_failure is OnFailure.CLOSED
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
            }
        )

    @model_validator(mode="after")
    def _reference_is_there(self) -> Self:
        if not self.each():
            raise ValueError("every check is switched off")
        if self.reference_model is None:
            if self.checks.divergence.enabled:
                raise ValueError(
                    "the divergence check needs reference_model (or checks.divergence.enabled: false)"
                )
            if self.replaces:
                raise ValueError("action replace needs reference_model")
        return self


def read_settings(raw: object, *, where: str) -> GatewaySettings:
    """What stands under ``gateway_plugin``. Raises :class:`GatewayConfigError` naming the setting."""
    if raw is None:
        raise GatewayConfigError(f"{where}: litellm_params has no {KEY}: section")
    if not isinstance(raw, Mapping):
        raise GatewayConfigError(f"{where}: {KEY} must be a mapping, not {type(raw).__name__}")
    try:
        return GatewaySettings.model_validate(dict(raw))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join([KEY, *(str(part) for part in first["loc"])])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise GatewayConfigError(
            f"{where}: {path}: {first['msg'].removeprefix('Value error, ')}{more}"
        ) from None


def check_modes(mode: object, settings: GatewaySettings, *, where: str) -> tuple[str, ...]:
    """The guardrail's modes. LiteLLM takes any word and then never calls the guardrail; we refuse."""
    given: Sequence[object] = [mode] if isinstance(mode, str) else mode if isinstance(mode, list) else []
    words = tuple(str(getattr(word, "value", word)) for word in given)
    if not words:
        raise GatewayConfigError(f"{where}: mode must be one or both of {', '.join(MODES)}, not {mode!r}")
    for word in words:
        if word not in MODES:
            raise GatewayConfigError(f"{where}: mode {word!r} is unknown; it must be {' or '.join(MODES)}")
    enabled = settings.each()
    needs_request = [name for name in ("perplexity", "script_mixing") if name in enabled]
    if needs_request and "pre_call" not in words:
        raise GatewayConfigError(f"{where}: the {needs_request[0]} check needs mode pre_call")
    if ("divergence" in enabled or settings.replaces) and "post_call" not in words:
        what = "the divergence check" if "divergence" in enabled else "action replace"
        raise GatewayConfigError(f"{where}: {what} needs mode post_call")
    return words


def check_proxy_config(text: str, *, name: str) -> list[str]:
    """Validate a LiteLLM proxy configuration; the names of the guardrails of ours that it holds.

    Raises :class:`GatewayConfigError` for the first mistake, also when there is no guardrail of ours or
    its reference model is no alias of ``model_list``.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f", line {line + 1}"
        raise GatewayConfigError(f"{name}{place}: not valid YAML") from None
    if not isinstance(document, Mapping):
        raise GatewayConfigError(f"{name}: not a mapping of settings")
    models = {str(row.get("model_name")) for row in _rows(document.get("model_list"))}
    found: list[str] = []
    for row in _rows(document.get("guardrails")):
        params = row.get("litellm_params")
        if not isinstance(params, Mapping) or params.get("guardrail") != GUARDRAIL:
            continue
        where = f"{name}: guardrail {row.get('guardrail_name')!r}"
        settings = read_settings(params.get(KEY), where=where)
        check_modes(params.get("mode"), settings, where=where)
        alias = settings.reference_model
        if alias is not None and not alias.startswith("os.environ/") and alias not in models:
            raise GatewayConfigError(f"{where}: {KEY}.reference_model: {alias!r} is not in model_list")
        found.append(str(row.get("guardrail_name")))
    if not found:
        raise GatewayConfigError(f"{name}: no guardrail with guardrail: {GUARDRAIL}")
    return found


def _rows(value: Any) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []
