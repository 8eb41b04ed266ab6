"""``sif evidence``: commit before the first probe, sign, bundle, verify."""

import typer

from sif_offline.cli.evidence import bundle, commit, keygen, nulls, replay, report, verify

app = typer.Typer(
    no_args_is_help=True, help="Evidence that holds before a stranger: commitments, signatures, bundles."
)
app.command("keygen")(keygen.keygen)
app.command("commit")(commit.commit_pack)
app.command("bundle")(bundle.bundle)
app.command("kit")(bundle.kit)
app.command("nulls")(nulls.nulls)
app.command("verify")(verify.verify)
app.command("replay")(replay.replay)
app.command("report")(report.report)
