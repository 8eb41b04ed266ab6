"""``sif-probes rescore``."""

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from probes.cli.options import ConfigOption, JsonOption, console
from probes.config import ConfigError, load_config
from probes.fingerprints import SifFingerprint, read_fingerprint
from probes.rounds.rescoring import rescore as score_again
from probes.store import open_store


def rescore(
    config: ConfigOption,
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score every answer that is held again, by the pack, keys and statistics of today. Asks nobody."""
    settings = load_config(config)
    names = [row.name for row in settings.targets]
    for name in target or ():
        if name not in names:
            raise ConfigError(f"{config}: no target {name}")
    # nobody is asked and nothing signed: neither targets nor their credentials are needed
    fingerprint = read_fingerprint(settings.model_copy(update={"targets": (), "evidence": None}))
    if not isinstance(fingerprint, SifFingerprint):
        raise ConfigError("only answers to a SIF pack have scores of their own; any other round scores anew")
    with open_store(settings.store) as store:
        made = [
            score_again(store, fingerprint.scorer, name, policy=fingerprint.policy, now=time.time())
            for name in target or names
        ]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in made], indent=1))
        return
    table = Table("target", "answers", "rounds", "no longer held", "verdict before", "verdict now")
    for row in made:
        table.add_row(row.target, str(row.answers), str(row.rounds), str(row.kept), row.before, row.after)
    console().print(table)
