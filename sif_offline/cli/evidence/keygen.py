"""``sif evidence keygen``: the key pair that signs commitments and bundles."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.private_files import KeyFileError


def keygen(
    out: Annotated[
        Path,
        typer.Option(
            help="Private key to write (PEM, mode 0600); the public key goes beside it: signer.pem, "
            "signer.pub.pem. Neither is ever overwritten."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Make a signing key (Ed25519) and print its fingerprint, which is what a reader of the evidence compares
    with one that reached them another way.
    """
    key, public = SigningKey.generate(), public_path(out)
    _write_new(public, key.public.pem)
    try:
        key.write(out)
    except KeyFileError:
        public.unlink()  # ours, made a line ago; a public key without its private one is of no use
        raise
    if as_json:
        found = {"private_key": str(out), "public_key": str(public), "fingerprint": key.public.fingerprint}
        typer.echo(json.dumps(found))
    else:
        typer.echo(f"private key written to {out} (keep it), public key to {public} (hand it out)")
        typer.echo(f"fingerprint {key.public.fingerprint}")


def public_path(private: Path) -> Path:
    """``signer.pem`` -> ``signer.pub.pem``; ``signer`` -> ``signer.pub``."""
    return private.with_name(f"{private.stem}.pub{private.suffix}")


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeyFileError(f"{path}: exists already; a key file is never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from None
