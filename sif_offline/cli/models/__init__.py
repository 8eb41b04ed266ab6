"""``sif models``: which models can be loaded, and whether one sees what its own processor sees."""

import typer

from sif_offline.cli.models import check, listing

app = typer.Typer(no_args_is_help=True, help="Model families: what can be loaded, and a check of one model.")
app.command("list")(listing.list_families)
app.command("check")(check.check)
