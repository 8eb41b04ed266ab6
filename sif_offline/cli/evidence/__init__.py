"""``sif evidence``: commit before the first probe, sign, bundle, verify."""

import typer

from sif_offline.cli.evidence import keygen

app = typer.Typer(
    no_args_is_help=True, help="Evidence that holds before a stranger: commitments, signatures, bundles."
)
app.command("keygen")(keygen.keygen)
