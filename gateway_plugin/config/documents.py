"""Files of settings: every mistake in one line that names the place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gateway_plugin.config.base import GatewayConfigError


def read_text(path: Path) -> str:
    """What stands in the file. Raises :class:`GatewayConfigError`."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise GatewayConfigError(f"{path}: cannot be read ({why})") from None


def read_mapping(text: str, *, name: str) -> Mapping[str, Any]:
    """The YAML document. Raises :class:`GatewayConfigError` with the line, or when it is no mapping."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f", line {line + 1}"
        raise GatewayConfigError(f"{name}{place}: not valid YAML") from None
    if not isinstance(document, Mapping):
        raise GatewayConfigError(f"{name}: not a mapping of settings")
    return document


def refusal(error: ValidationError, *, name: str, under: Sequence[str | int] = ()) -> GatewayConfigError:
    """The first mistake, without the value, which may be a secret. under: the path of what was validated."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(map(str, (*under, *first["loc"])))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return GatewayConfigError(f"{name}: {path}: {first['msg'].removeprefix('Value error, ')}{more}")
