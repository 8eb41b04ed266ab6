"""``sif keys``: make a master secret, rotate it, look at it, and derive from it the keys of one pack."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sif_offline.cli.secrets import key_ring
from sif_offline.fingerprint.keys import (
    DEMO_SECRET,
    ENVIRONMENT_VARIABLE,
    KeyRing,
    MasterSecret,
    TriggerKeys,
    derive_pack_keys,
    opening_generation,
    read_key_ring,
    rotate_key_file,
    write_key_file,
)
from sif_offline.fingerprint.pack import FingerprintPack, read_pack

app = typer.Typer(no_args_is_help=True, help="Make, rotate and show a master secret; derive a pack's keys.")


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


@app.command("rotate")
def rotate(
    key_file: Annotated[Path, typer.Option(help="Master key file to put a fresh generation on top of.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Forge packs from now on under a fresh master secret; packs of the older generations stay readable."""
    ring = rotate_key_file(key_file)
    count = len(ring.generations)
    if as_json:
        told = {"key_file": str(key_file), "generations": count, "fingerprint": ring.current.fingerprint}
        typer.echo(json.dumps(told))
    else:
        typer.echo(f"{key_file}: {count} generations, the current one is {ring.current.fingerprint}")


@app.command("show")
def show(
    key_file: Annotated[
        Path | None, typer.Option(help=f"Master key file; without it {ENVIRONMENT_VARIABLE} counts.")
    ] = None,
    pack: Annotated[Path | None, typer.Option(help="Say which generation opens this pack.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """List the generations of a master secret by fingerprints that give nothing of it away."""
    ring = key_ring(key_file)
    content = None if pack is None else read_pack(pack)
    rows = _generations(ring, content)
    if as_json:
        told: dict[str, Any] = {"generations": rows}
        typer.echo(json.dumps(told if content is None else {"pack_id": content.pack_id, **told}))
        return
    for number, row in enumerate(rows, start=1):
        notes = [
            *(["current"] if row["current"] else []),
            *(["the published demo secret"] if row["demo"] else []),
            *([f"opens pack {content.pack_id}"] if content is not None and row["opens_pack"] else []),
        ]
        typer.echo(f"{number}  {row['fingerprint']}  {', '.join(notes)}".rstrip())
    if content is not None and not any(row["opens_pack"] for row in rows):
        typer.echo(f"no generation opens pack {content.pack_id}")


def _generations(ring: KeyRing, pack: FingerprintPack | None) -> list[dict[str, Any]]:
    opener = None if pack is None else opening_generation(ring, pack)
    return [
        {
            "fingerprint": secret.fingerprint,
            "current": place == 0,
            "demo": secret.is_demo,
            **({} if pack is None else {"opens_pack": place == opener}),
        }
        for place, secret in enumerate(ring.generations)
    ]


@app.command("derive")
def derive(
    pack: Annotated[Path, typer.Option(help="Fingerprint pack, a directory or a zip.")],
    key_file: Annotated[Path, typer.Option(help="Master key file that the pack was forged with.")],
    out: Annotated[Path, typer.Option(help="File of trigger keys to write (mode 0600); never overwritten.")],
    triggers: Annotated[
        str | None,
        typer.Option(help="Only these, as t00,t03: to disclose in evidence, not enough to score the pack."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write the trigger keys of one pack: all that a probe host needs, and nothing about any other pack."""
    keys: TriggerKeys = derive_pack_keys(read_key_ring(key_file), read_pack(pack))
    if triggers is not None:
        keys = keys.subset(name.strip() for name in triggers.split(","))
    keys.write(out)
    if as_json:
        typer.echo(
            json.dumps({"trigger_keys": str(out), "pack_id": keys.pack_id, "triggers": list(keys.keys)})
        )
    else:
        typer.echo(f"{len(keys.keys)} trigger keys of pack {keys.pack_id} written to {out}")
