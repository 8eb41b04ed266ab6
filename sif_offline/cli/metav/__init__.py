"""``sif metav``: fingerprints for any model."""

import typer

from sif_offline.cli.metav import evaluate, train, verify, zoo

app = typer.Typer(
    no_args_is_help=True,
    help="MetaV: fingerprint a model of any kind by queries and a verifier trained together.",
)
app.command("zoo")(zoo.zoo)
app.command("train")(train.train)
app.command("verify")(verify.verify)
app.command("evaluate")(evaluate.evaluate)
