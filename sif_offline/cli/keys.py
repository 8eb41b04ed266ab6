"""``sif keys``: make a master secret, and derive from it the keys of one pack."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sif_offline.fingerprint.keys import (
    DEMO_SECRET,
    MasterSecret,
    TriggerKeys,
    derive_pack_keys,
    read_key_file,
    write_key_file,
)
from sif_offline.fingerprint.pack import read_pack

app = typer.Typer(no_args_is_help=True, help="Make a master secret; derive the trigger keys of a pack.")


@app.command("new")
def new(
    out: Annotated[Path, typer.Option(help="Key file to write (mode 0600); never overwritten.")],
    insecure_demo_key: Annotated[
        bool,
        typer.Option("--insecure-demo-key", help="Write the published demo secret, which protects nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Make a fresh master secret. Whoever holds it can find the owner's triggers: keep it off probe hosts."""
    write_key_file(out, DEMO_SECRET if insecure_demo_key else MasterSecret.generate())
    typer.echo(json.dumps({"key_file": str(out)}) if as_json else f"master key written to {out}")


@app.command("derive")
def derive(
    pack: Annotated[Path, typer.Option(help="Fingerprint pack, a directory or a zip.")],
    key_file: Annotated[Path, typer.Option(help="Master key file that the pack was forged with.")],
    out: Annotated[Path, typer.Option(help="File of trigger keys to write (mode 0600); never overwritten.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write the trigger keys of one pack: all that a probe host needs, and nothing about any other pack."""
    keys: TriggerKeys = derive_pack_keys(read_key_file(key_file), read_pack(pack))
    keys.write(out)
    if as_json:
        typer.echo(
            json.dumps({"trigger_keys": str(out), "pack_id": keys.pack_id, "triggers": list(keys.keys)})
        )
    else:
        typer.echo(f"{len(keys.keys)} trigger keys of pack {keys.pack_id} written to {out}")
