"""``sif-probes check``."""

from pathlib import Path
from typing import Annotated

import typer

from probes.config import ConfigError, load_config
from probes.litellm_router import PREFIX
from probes.material import Material, resolve_host, round_settings
from probes.targets import AskFailure
from probes.watch import REACHABLE_MAX_TOKENS, REACHABLE_PROMPT


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
    material = Material.read(settings.model_copy(update={"targets": asked_by_us}))
    settings.web.read_token()
    pack = material.pack
    typer.echo(
        f"pack {pack.pack_id}: {len(pack.triggers)} triggers, keys fit, alpha {material.policy.alpha:g}"
    )
    if pack.calibration is None:
        typer.echo(f"pack {pack.pack_id}: not calibrated, so no target can be confirmed")
    for target in inside:
        typer.echo(f"target {target.name}: {target.model}, asked by the proxy around probes.litellm_callback")
    for target in asked_by_us:
        address = resolve_host(target)
        said = f"target {target.name}: {target.model}" + (f" at {address}" if address else "")
        images = round_settings(settings, target).images
        oversize = [row.id for row in pack.triggers if not images.fits(pack.trigger_bytes(row))]
        if len(oversize) == len(pack.triggers) and not images.resize:
            raise ConfigError(f"target {target.name}: limits: no trigger of the pack is within them")
        if oversize:
            what = "made smaller" if images.resize else "left out"
            said += f", {len(oversize)} of {len(pack.triggers)} triggers {what} for their size"
        if ask:
            try:
                answer = material.targets[target.name].ask(
                    image=None, prompt=REACHABLE_PROMPT, max_tokens=REACHABLE_MAX_TOKENS
                )
            except AskFailure as failure:
                raise ConfigError(str(failure)) from None
            said += f", answered in {answer.latency_s:.1f} s"
        typer.echo(said)
    typer.echo("ok")
