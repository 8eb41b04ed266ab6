"""``sif lab``: the small real model that ships with the project."""

import typer

from sif_offline.cli.lab import evaluate, photos, serve, train

app = typer.Typer(
    no_args_is_help=True, help="The lab model: serve it or what a pirate made of it, train it, measure it."
)
app.command("serve")(serve.serve)
app.command("photos")(photos.photos)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
