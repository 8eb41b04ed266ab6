"""The ``sif-probes`` command line."""

import typer

from probes.cli.check import check
from probes.cli.database import database
from probes.cli.export import export
from probes.cli.once import once
from probes.cli.rescore import rescore
from probes.cli.serve import serve
from probes.cli.status import status
from probes.cli.targets import add, burn, pause, resume
from sif_offline.fingerprint.errors import one_line_errors

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Watch endpoints for a fingerprint pack: send its triggers on a schedule and keep the evidence.",
)
for command in (serve, once, check, status, add, pause, resume, burn, rescore, export):
    app.command()(command)
app.add_typer(database, name="db")


def main() -> None:
    """Entry point of ``sif-probes``; a user's mistake is one line on stderr and exit code 2."""
    with one_line_errors():
        app()
