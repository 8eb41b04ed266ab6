"""``sif-probes add``, ``pause``, ``resume`` and ``burn``: standing orders that a running service keeps to."""

import getpass
import os
import time
from pathlib import Path
from typing import Annotated

import typer
import yaml

from probes.cli.options import ConfigOption
from probes.config import ConfigError, ProbesConfig, load_config
from probes.fingerprints import read_any_pack, trigger_ids
from probes.store import open_store, orders
from probes.store.limits import EVERY
from sif_offline.fingerprint.pack_files import pack_kind

NameArgument = Annotated[str | None, typer.Argument(help="The target's name in the configuration.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every target: the kill switch.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the store.")]


def add(
    name: Annotated[str, typer.Argument(help="A new name.")],
    config: ConfigOption,
    model: Annotated[str, typer.Option(help="litellm's model string, openai/... for a URL.")],
    authorised_by: Annotated[str, typer.Option(help="Who allowed the watch.")],
    purpose: Annotated[str, typer.Option(help="What for.")],
    api_base: Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible server.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable with the credential.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File with the credential.")] = None,
) -> None:
    """Add a target: a file of its own in the configuration's targets_folder. A running service takes it up at
    the next reload (SIGHUP).
    """
    settings = load_config(config)
    folder = settings.targets_folder
    if folder is None:
        raise ConfigError(f"{config}: set targets_folder first; files of targets are written there")
    if pack_kind(settings.pack) == "metav":  # the next start or reload would refuse the whole configuration
        raise ConfigError(
            f"{config}: its pack is of kind metav; write the target's file into {folder} yourself"
        )
    row = {"name": name, "model": model, "api_base": api_base, "api_key_env": api_key_env}
    row |= {"api_key_file": str(api_key_file.resolve()) if api_key_file else None}
    row |= {"authorised_by": authorised_by, "purpose": purpose}
    path = folder / f"{name}.yaml"
    if path.parent != folder:
        raise ConfigError(f"{name}: is no name for a target")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            yaml.safe_dump({k: v for k, v in row.items() if v is not None}, file, sort_keys=False)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    try:
        load_config(config)
    except ConfigError:
        path.unlink()  # ours, made a moment ago
        raise
    typer.echo(f"{path}: written; reload the service to watch {name}")


def pause(
    config: ConfigOption, name: NameArgument = None, everything: AllOption = False, reason: ReasonOption = ""
) -> None:
    """Send nothing more to a target, or with --all to anybody, from the next question on, until resumed.

    Takes effect at once in every process that shares the store.
    """
    settings = load_config(config)
    target = _one(settings, name, everything=everything, config=config)
    with open_store(settings.store) as store:
        orders.hold(store, target, by=_who(), reason=reason, now=time.time())
    typer.echo(f"{'every target' if target == EVERY else target}: paused")


def resume(config: ConfigOption, name: NameArgument = None, everything: AllOption = False) -> None:
    """End a pause. --all ends the pause of all; targets paused by name stay paused."""
    settings = load_config(config)
    target = _one(settings, name, everything=everything, config=config)
    with open_store(settings.store) as store:
        was_paused = orders.release(store, target)
    typer.echo(
        f"{'every target' if target == EVERY else target}: {'resumed' if was_paused else 'was not paused'}"
    )


def burn(
    trigger: Annotated[str, typer.Argument(help="The trigger's id in the pack.")],
    config: ConfigOption,
    reason: ReasonOption,
    target: Annotated[str, typer.Option(help="Only to this target [to nobody any more].")] = EVERY,
) -> None:
    """Send a trigger no more: an endpoint may have learned it. Its answers so far keep counting."""
    settings = load_config(config)
    pack = read_any_pack(settings.pack)
    if trigger not in trigger_ids(pack):
        raise ConfigError(f"pack {pack.pack_id}: no trigger {trigger}")
    if target != EVERY:
        _one(settings, target, everything=False, config=config)
    with open_store(settings.store) as store:
        orders.burn(store, trigger, pack_id=pack.pack_id, target=target, reason=reason, now=time.time())
    typer.echo(f"{trigger}: not sent to {'anybody' if target == EVERY else target} any more")


def _one(settings: ProbesConfig, name: str | None, *, everything: bool, config: Path) -> str:
    if everything == (name is not None):
        raise ConfigError("give the name of a target, or --all")
    if name is None:
        return EVERY
    if name not in {row.name for row in settings.targets}:
        raise ConfigError(f"{config}: no target {name}")
    return name


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
