"""Reading and validating what an operator wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pydantic import ValidationError

from gateway_plugin.config.base import FROM_ENVIRONMENT, GatewayConfigError
from gateway_plugin.config.documents import read_mapping, refusal
from gateway_plugin.config.sections import Match
from gateway_plugin.config.settings import GatewaySettings
from gateway_plugin.screening.base import Phase

KEY = "gateway_plugin"
GUARDRAIL = "gateway_plugin.litellm_guardrail.SDAGuardrail"
MODES = ("pre_call", "post_call")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The settings, and what holds in their place for the callers and models that an override names."""

    settings: GatewaySettings
    overrides: tuple[tuple[Match, GatewaySettings], ...] = ()

    def pick(self, *, teams: frozenset[str], keys: frozenset[str], model: str) -> GatewaySettings:
        """The settings of the first override that matches, or the general ones."""
        for match, settings in self.overrides:
            if match.fits(teams=teams, keys=keys, model=model):
                return settings
        return self.settings

    @property
    def every(self) -> tuple[GatewaySettings, ...]:
        """All settings that can hold."""
        return (self.settings, *(settings for _, settings in self.overrides))


def read_configuration(raw: object, *, where: str) -> Configuration:
    """What stands under ``gateway_plugin``. Raises :class:`GatewayConfigError` naming the setting."""
    if raw is None:
        raise GatewayConfigError(f"{where}: litellm_params has no {KEY}: section")
    if not isinstance(raw, Mapping):
        raise GatewayConfigError(f"{where}: {KEY} must be a mapping, not {type(raw).__name__}")
    settings = _validated(raw, where=where, under=(KEY,))
    rest = {key: value for key, value in raw.items() if key != "overrides"}
    return Configuration(
        settings=settings,
        overrides=tuple(
            (
                override.match,
                _validated(
                    merged(rest, override.settings), where=where, under=(KEY, "overrides", number, "settings")
                ),
            )
            for number, override in enumerate(settings.overrides)
        ),
    )


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """``more`` over ``base``, mapping by mapping; anything else is replaced whole."""
    result = dict(base)
    for key, value in more.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = merged(below, value)
        result[key] = value
    return result


def _validated(raw: Mapping[str, Any], *, where: str, under: Sequence[str | int]) -> GatewaySettings:
    preset = raw.get("preset")
    if preset in ("paper", "strict"):
        text = (files("gateway_plugin.config") / "presets" / f"{preset}.yaml").read_text("utf-8")
        raw = merged(read_mapping(text, name=f"{preset}.yaml"), raw)
    try:
        return GatewaySettings.model_validate(dict(raw))
    except ValidationError as error:
        raise refusal(error, name=where, under=under) from None


def check_modes(mode: object, configuration: Configuration, *, where: str) -> tuple[str, ...]:
    """The guardrail's modes. LiteLLM takes any word and then never calls the guardrail; we refuse."""
    given: Sequence[object] = [mode] if isinstance(mode, str) else mode if isinstance(mode, list) else []
    words = tuple(str(getattr(word, "value", word)) for word in given)
    if not words:
        raise GatewayConfigError(f"{where}: mode must be one or both of {', '.join(MODES)}, not {mode!r}")
    for word in words:
        if word not in MODES:
            raise GatewayConfigError(f"{where}: mode {word!r} is unknown; it must be {' or '.join(MODES)}")
    for settings in configuration.every:
        for name, check in settings.each().items():
            for phase, word in zip((Phase.REQUEST, Phase.RESPONSE), MODES, strict=True):
                if phase in check.phases and word not in words:
                    raise GatewayConfigError(f"{where}: the {name} check needs mode {word}")
        if settings.replaces and "post_call" not in words:
            raise GatewayConfigError(f"{where}: action replace needs mode post_call")
    return words


def guardrail_settings(text: str, *, name: str, guardrail: str = "") -> GatewaySettings:
    """The settings of one guardrail of ours in a proxy configuration. Raises :class:`GatewayConfigError`."""
    found = proxy_guardrails(text, name=name)
    if not guardrail and len(found) > 1:
        raise GatewayConfigError(f"{name}: name one of its guardrails: {', '.join(found)}")
    chosen = guardrail or next(iter(found))
    if chosen not in found:
        raise GatewayConfigError(f"{name}: no guardrail {chosen!r}; there are: {', '.join(found)}")
    return found[chosen].settings


def proxy_guardrails(text: str, *, name: str) -> dict[str, Configuration]:
    """The configuration of each guardrail of ours in a proxy configuration. Raises
    :class:`GatewayConfigError`."""
    document = read_mapping(text, name=name)
    models = {str(row.get("model_name")) for row in _rows(document.get("model_list"))}
    found: dict[str, Configuration] = {}
    for row in _rows(document.get("guardrails")):
        params = row.get("litellm_params")
        if not isinstance(params, Mapping) or params.get("guardrail") != GUARDRAIL:
            continue
        where = f"{name}: guardrail {row.get('guardrail_name')!r}"
        configuration = read_configuration(params.get(KEY), where=where)
        check_modes(params.get("mode"), configuration, where=where)
        for settings in configuration.every:
            for setting, alias in settings.aliases().items():
                if not alias.startswith(FROM_ENVIRONMENT) and alias not in models:
                    raise GatewayConfigError(f"{where}: {KEY}.{setting}: {alias!r} is not in model_list")
        found[str(row.get("guardrail_name"))] = configuration
    if not found:
        raise GatewayConfigError(f"{name}: no guardrail with guardrail: {GUARDRAIL}")
    return found


def _rows(value: Any) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []
