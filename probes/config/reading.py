"""The probes' configuration file: strict YAML, checked as a whole before anything runs.

Every key is known or refused; a credential is named (an environment variable or a file), never written here.
Relative paths are relative to the file's folder.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from probes.config.fields import ConfigError, Strict
from probes.config.probes import ProbesConfig

Section = TypeVar("Section", bound=Strict)


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
    return parse_config(_mapping(path), where=str(path), folder=path.resolve().parent)


def parse_config(data: object, *, where: str, folder: Path) -> ProbesConfig:
    """Check a configuration that was read. Raises ConfigError, one line, naming ``where`` and the keys.

    Relative paths are relative to ``folder``.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: must be a mapping of keys")
    # before all is checked: a folder may hold the only targets there are
    of_targets, listed = data.get("targets_folder"), data.get("targets", [])
    found: list[Path] = []
    if isinstance(of_targets, str) and isinstance(listed, list | tuple):
        found = sorted((folder / of_targets).glob("*.yaml"))
        data = {**data, "targets": [*listed, *map(_mapping, found)]}
    try:
        config = ProbesConfig.model_validate(dict(data))
    except ValidationError as error:
        said = "; ".join(_messages(error))
        for number, file in enumerate(found, start=len(listed) if found else 0):
            said = said.replace(f"targets.{number}.", f"{file.name}: ")
        raise ConfigError(f"{where}: {said}") from None
    return _resolve(config, where=where, folder=folder)


def _mapping(path: Path) -> dict[str, Any]:
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
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping of keys")
    return data


def _messages(error: ValidationError) -> list[str]:
    """One short text a problem, ``key: problem``, without any of the file's values."""
    messages = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = list(problem["loc"])
        if place[:1] == ["targets"] and len(place) > 2:
            del place[2]  # the kind by which the target was read
        where = ".".join(map(str, place)) or "file"
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
    targets = tuple(_absolute(target, ("api_key_file", "ca_file"), folder) for target in config.targets)
    evidence = config.evidence and _absolute(config.evidence, ("folder", "signing_key"), folder)
    try:
        url = make_url(config.store)
    except (ArgumentError, ValueError):  # a port that is no number
        raise ConfigError(
            f"{where}: store: must be a SQLAlchemy URL, as sqlite:///probes.sqlite is"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        url = url.set(database=str(folder / str(url.database)))
    changed = {"store": url.render_as_string(hide_password=False), "targets": targets, "evidence": evidence}
    return _absolute(config, ("pack", "trigger_keys", "targets_folder"), folder).model_copy(update=changed)


def _absolute(section: Section, names: tuple[str, ...], folder: Path) -> Section:
    paths = {name: folder / value for name in names if (value := getattr(section, name)) is not None}
    return section.model_copy(update=paths)
