"""The YAML file of a gateway that is no LiteLLM proxy: the same settings, and its own models and key."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator

from gateway_plugin.config import KEY, Configuration, GatewayConfigError, read_configuration
from gateway_plugin.config.base import FROM_ENVIRONMENT, Strict, secret_text
from gateway_plugin.config.documents import read_mapping, read_text, refusal
from gateway_plugin.endpoints import Endpoint
from gateway_plugin.wire.bodies import MAX_BODY_BYTES

MIN_KEY_BYTES = 16


class ServiceSettings(Strict):
    """Of the HTTP service alone.

    api_keys: what callers put in ``x-api-key``, as ``os.environ/NAME``; one for each proxy.
    max_body_bytes: larger requests are refused.
    max_calls_at_once: more are refused with a 503 and may be sent again.
    """

    api_keys: tuple[SecretStr, ...] = (SecretStr(f"{FROM_ENVIRONMENT}SIF_GATEWAY_API_KEY"),)
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**30)] = MAX_BODY_BYTES
    max_calls_at_once: Annotated[int, Field(ge=1, le=65536)] = 128

    @field_validator("api_keys")
    @classmethod
    def _from_the_environment(cls, given: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not given:
            raise ValueError("name at least one key")
        if not all(key.get_secret_value().startswith(FROM_ENVIRONMENT) for key in given):
            raise ValueError(f"write a key as {FROM_ENVIRONMENT}NAME, not as it is")
        return given


class _Document(Strict):
    gateway_plugin: dict[str, Any]
    models: dict[str, Endpoint] = Field(default_factory=dict)
    service: ServiceSettings = ServiceSettings()


@dataclass(frozen=True, kw_only=True)
class ServiceConfiguration:
    """A validated file. ``name`` is the file's, for messages."""

    name: str
    configuration: Configuration
    endpoints: Mapping[str, Endpoint]
    service: ServiceSettings

    def api_keys(self) -> tuple[bytes, ...]:
        """The keys themselves. Raises :class:`GatewayConfigError` where one is not set or short."""
        where = f"{self.name}: service.api_keys"
        keys = tuple(secret_text(key, where=where).encode() for key in self.service.api_keys)
        if any(len(key) < MIN_KEY_BYTES for key in keys):
            raise GatewayConfigError(f"{where}: a key has at least {MIN_KEY_BYTES} bytes")
        return keys


def is_service(text: str) -> bool:
    """Whether the text is meant for the service: our settings stand at its top, not in a guardrail."""
    try:
        return KEY in read_mapping(text, name="")
    except GatewayConfigError:
        return False


def load_service_configuration(path: Path) -> ServiceConfiguration:
    """The file at ``path``. Raises :class:`GatewayConfigError`."""
    return read_service_configuration(read_text(path), name=str(path))


def read_service_configuration(text: str, *, name: str) -> ServiceConfiguration:
    """Raises :class:`GatewayConfigError` for the first mistake, in one line that names the setting.

    Environment variables are not looked up here, so that a file can be checked anywhere.
    """
    document = read_mapping(text, name=name)
    configuration = read_configuration(document.get(KEY), where=name)
    try:
        read = _Document.model_validate(dict(document))
    except ValidationError as error:
        raise refusal(error, name=name) from None
    for settings in configuration.every:
        for setting, alias in settings.aliases().items():
            if alias not in read.models:
                raise GatewayConfigError(f"{name}: {KEY}.{setting}: {alias!r} is not in models")
    return ServiceConfiguration(
        name=name, configuration=configuration, endpoints=read.models, service=read.service
    )
