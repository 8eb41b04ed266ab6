"""The probes' configuration file: strict YAML, checked as a whole before anything runs.

Every key is known or refused; a credential is named (an environment variable or a file), never written here.
Relative paths are relative to the file's folder.
"""

import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from sif_offline.fingerprint.allow_header import AllowHeaderError, Signer, secret_from_environment
from sif_offline.fingerprint.errors import SifError


class ConfigError(SifError):
    """A configuration that cannot be used; names the file and the key."""


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: object) -> object:
    """Durations are numbers of seconds or texts such as 30s, 15m, 1h, 7d."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value.strip())
        if match is None:
            raise ValueError("must be seconds or a duration such as 30s, 15m, 1h or 7d")
        return float(match[1]) * _UNITS[match[2]]
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    if parts.username or parts.password:
        raise ValueError("must not hold credentials; use api_key_env or api_key_file")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(_not_blank)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AllowConfig(_Strict):
    """What a gateway's allow-list knows these probes by: it lets questions signed so pass unscreened.

    ``secret_env`` names the environment variable with the secret that both sides hold, 32 bytes or more.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    secret_env: Text


class TargetConfig(_Strict):
    """One endpoint that its owner, or somebody with a right to ask, has put under watch.

    ``authorised_by`` and ``purpose`` say who allowed the watch and why; both are kept in the store. ``allow``
    is for a target behind a gateway that cooperates: the header tells anybody who sees it that a probe asks.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    model: Text
    api_base: Annotated[str, AfterValidator(_http_url)] | None = None
    api_key_env: Text | None = None
    api_key_file: Path | None = None
    timeout: Duration = 60.0
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    allow: AllowConfig | None = None
    authorised_by: Text
    purpose: Text

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("give api_key_env or api_key_file, not both")
        return self

    @model_validator(mode="after")
    def _signs_what_is_sent(self) -> Self:
        # litellm rewrites messages for other providers, after they were signed
        if self.allow is not None and not (self.model.startswith("openai/") and self.api_base):
            raise ValueError("allow: only for an OpenAI-compatible server (model: openai/..., with api_base)")
        return self

    def read_api_key(self) -> SecretStr | None:
        """The credential from the environment or file named, None where none is. Raises ConfigError."""
        if self.api_key_env is not None:
            key = os.environ.get(self.api_key_env, "")
            where = f"environment variable {self.api_key_env}"
        elif self.api_key_file is not None:
            where = str(self.api_key_file)
            try:
                key = self.api_key_file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not a text file"
                raise ConfigError(f"target {self.name}: {where}: {reason}") from None
        else:
            return None
        if not key:
            raise ConfigError(f"target {self.name}: {where} is not set or empty")
        return SecretStr(key)

    def read_signer(self) -> Signer | None:
        """What signs each question for a gateway's allow-list, None where ``allow`` is not set. Raises
        ConfigError.
        """
        if self.allow is None:
            return None
        try:
            secret = secret_from_environment(self.allow.secret_env)
        except AllowHeaderError as error:
            raise ConfigError(f"target {self.name}: {error}") from None
        return Signer(self.allow.name, secret)


class Listen(_Strict):
    """Where the service serves. Port 0 takes a free one."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9464


class ProbesConfig(_Strict):
    """The whole file. Times are seconds here, whatever unit the file used.

    Args:
        pack: the fingerprint pack whose triggers are sent.
        trigger_keys: what ``sif keys derive --pack`` wrote; never the master secret.
        store: a SQLAlchemy URL.
        interval: time between two rounds of one target.
        triggers_per_round: how many triggers one round may send to one target.
        clean_share: clean photos asked for as paired controls, as a share of the triggers sent.
        cooldown: a trigger is not sent to the same target again before that.
        alpha: a target is confirmed when its e-value reaches 1/alpha; the chance that an innocent ever is.
            Left out, it is the committed one, or 1e-6.
        attempts: sends a question may take when the target says 429 or cannot be reached.
    """

    pack: Path
    trigger_keys: Path
    # a URL of a server may hold a password
    store: Annotated[str, Field(repr=False)] = "sqlite:///sif-probes.sqlite"
    listen: Listen = Listen()
    interval: Duration = 3600.0
    triggers_per_round: Annotated[int, Field(ge=1, le=10_000)] = 16
    clean_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    cooldown: Duration = 3000.0
    alpha: Annotated[float, Field(gt=0, le=0.01)] | None = None
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    targets: tuple[TargetConfig, ...]

    @model_validator(mode="after")
    def _targets_have_names(self) -> Self:
        # a min_length of the field would also complain whenever a target is wrong
        if not self.targets:
            raise ValueError("targets: at least one is needed")
        names = [target.name for target in self.targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two targets are named {twice[0]}")
        return self


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key silently win over an earlier one; a configuration must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_config(path: Path) -> ProbesConfig:
    """Read and check a configuration file. Raises ConfigError, one line, naming the file and the keys."""
    try:
        data = yaml.load(path.read_text("utf-8"), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ConfigError(f"{path}: is not valid YAML: {error.problem}{line}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None
    return parse_config(data, where=str(path), folder=path.resolve().parent)


def parse_config(data: object, *, where: str, folder: Path) -> ProbesConfig:
    """Check a configuration that was read. Raises ConfigError, one line, naming ``where`` and the keys.

    Relative paths are relative to ``folder``.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: must be a mapping of keys")
    try:
        config = ProbesConfig.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(_messages(error))}") from None
    return _resolve(config, where=where, folder=folder)


def _messages(error: ValidationError) -> list[str]:
    """One short text a problem, ``key: problem``, without any of the file's values."""
    messages = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"]) or "file"
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            said = "unknown key"
            if where.endswith("api_key"):
                said = "a key is never written here; give api_key_env or api_key_file"
        elif problem["type"] == "missing":
            said = "is required"
        messages.append(f"{where}: {said}")
    return messages


def _resolve(config: ProbesConfig, *, where: str, folder: Path) -> ProbesConfig:
    """The same configuration with every relative path made absolute."""
    targets = tuple(
        target.model_copy(update={"api_key_file": folder / target.api_key_file})
        if target.api_key_file is not None
        else target
        for target in config.targets
    )
    try:
        url = make_url(config.store)
    except ArgumentError:
        raise ConfigError(
            f"{where}: store: must be a SQLAlchemy URL, as sqlite:///probes.sqlite is"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        url = url.set(database=str(folder / str(url.database)))
    return config.model_copy(
        update={
            "pack": folder / config.pack,
            "trigger_keys": folder / config.trigger_keys,
            "store": url.render_as_string(hide_password=False),
            "targets": targets,
        }
    )
