"""The operator's configuration: settings, presets, reading and validating."""

from gateway_plugin.config.base import GatewayConfigError
from gateway_plugin.config.reading import (
    GUARDRAIL,
    KEY,
    MODES,
    Configuration,
    check_modes,
    guardrail_settings,
    proxy_guardrails,
    read_configuration,
)
from gateway_plugin.config.settings import GatewaySettings

__all__ = [
    "GUARDRAIL",
    "KEY",
    "MODES",
    "Configuration",
    "GatewayConfigError",
    "GatewaySettings",
    "check_modes",
    "guardrail_settings",
    "proxy_guardrails",
    "read_configuration",
]
