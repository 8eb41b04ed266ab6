"""``sif lab``: the small real model that ships with the project."""

import typer

from sif_offline.cli.lab import photos, serve

app = typer.Typer(no_args_is_help=True, help="The lab model: serve it, or what a pirate made of it.")
app.command("serve")(serve.serve)
app.command("photos")(photos.photos)
