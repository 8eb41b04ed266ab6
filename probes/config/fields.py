"""What the sections of the configuration are made of."""

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

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
Pause = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Text = Annotated[str, AfterValidator(_not_blank)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def secret_from(*, environment: str | None = None, file: Path | None = None, owner: str) -> SecretStr | None:
    """The secret in the environment variable or file named, None where none is.

    ``owner`` opens the message. Raises ConfigError where the place named holds none.
    """
    if environment is not None:
        found, where = os.environ.get(environment, "").strip(), f"environment variable {environment}"
    elif file is not None:
        where = str(file)
        try:
            found = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise ConfigError(f"{owner}: {where}: {reason}") from None
    else:
        return None
    if not found:
        raise ConfigError(f"{owner}: {where} is not set or empty")
    return SecretStr(found)
