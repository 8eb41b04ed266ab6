"""The ``sif`` command: every subcommand lives in a file of its own beside this one."""

import typer

from sif_offline.cli import (
    baseline,
    calibrate,
    evaluate,
    evidence,
    forge,
    greenlist,
    keys,
    lab,
    metav,
    models,
    score,
    variants,
    verify,
)
from sif_offline.fingerprint.errors import one_line_errors

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Forge, calibrate and verify SIF fingerprints of a vision-language model.",
)
app.command("forge")(forge.forge)
app.command("variants")(variants.variants)
app.command("calibrate")(calibrate.calibrate)
app.command("verify")(verify.verify)
app.command("evaluate")(evaluate.evaluate)
app.command("score")(score.score)
app.command("greenlist")(greenlist.greenlist)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(evidence.app, name="evidence")
app.add_typer(lab.app, name="lab")
app.add_typer(baseline.app, name="baseline")
app.add_typer(metav.app, name="metav")


def main() -> None:
    """Entry point of the ``sif`` script; a user's mistake is one line on stderr and exit code 2."""
    with one_line_errors():
        app()
