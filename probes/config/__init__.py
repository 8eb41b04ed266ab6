"""The probes' configuration: its sections, and reading it from a file."""

from probes.config.fields import ConfigError
from probes.config.metav_target import MetaVTargetConfig
from probes.config.probes import AnyTargetConfig, Listen, ProbesConfig
from probes.config.reading import load_config, parse_config
from probes.config.target import TargetConfig

__all__ = [
    "AnyTargetConfig",
    "ConfigError",
    "Listen",
    "MetaVTargetConfig",
    "ProbesConfig",
    "TargetConfig",
    "load_config",
    "parse_config",
]
