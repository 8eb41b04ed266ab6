"""``sif models list``: every family that ``--model`` takes."""

import json
from typing import Annotated

import typer


def list_families(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Print every family: what it is for, what to write, whose pixels it reproduces, who brings it."""
    from sif_offline.models.registry import describe_families

    found = describe_families()
    if as_json:
        rows = [
            {
                "family": family.name,
                "models": family.models,
                "examples": list(family.examples),
                "backend": family.backend or None,
                "loaded_by": family.loaded_by,
                "loader": family.loader,
            }
            for family in found
        ]
        typer.echo(json.dumps({"families": rows}))
        return
    for family in found:
        typer.echo(f"{family.name:<16} {family.models or family.loader}")
        backend = f"{family.backend} pixels, " if family.backend else ""
        typer.echo(f"{'':<16} {backend}loaded by {family.loaded_by or 'an unnamed distribution'}")
        typer.echo(f"{'':<16} --model {'  or  '.join(family.examples)}")
