"""``sif-probes check``."""

from pathlib import Path
from typing import Annotated

import typer

from probes.config import ConfigError, load_config
from probes.fingerprints import read_fingerprint, resolve_host
from probes.litellm_router import PREFIX
from probes.targets import AskFailure


def check(
    file: Annotated[Path, typer.Argument(help="The probes' YAML file.")],
    ask: Annotated[bool, typer.Option("--ask", help="Also ask every target one short question.")] = False,
) -> None:
    """Check a configuration: keys, pack, trigger keys, credentials, host names, picture sizes; and make every
    target's questions as a round would. Sends no trigger.
    """
    settings = load_config(file)
    inside = [target for target in settings.targets if target.model.startswith(PREFIX)]
    asked_by_us = tuple(target for target in settings.targets if target not in inside)
    fingerprint = read_fingerprint(settings)
    targets = fingerprint.watched(settings.model_copy(update={"targets": asked_by_us}))
    settings.web.read_token()
    for line in fingerprint.describe():
        typer.echo(line)
    for target in inside:
        typer.echo(f"target {target.name}: {target.model}, asked by the proxy around probes.litellm_callback")
    for target in asked_by_us:
        address = resolve_host(target)
        said = f"target {target.name}: {target.model}" + (f" at {address}" if address else "")
        more = fingerprint.describe_target(settings, target)
        said += f", {more}" if more else ""
        if ask:
            try:
                answer = targets[target.name].reach()
            except AskFailure as failure:
                raise ConfigError(str(failure)) from None
            said += f", answered in {answer.latency_s:.1f} s"
        typer.echo(said)
    typer.echo("ok")
