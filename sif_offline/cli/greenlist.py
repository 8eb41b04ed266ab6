"""``sif greenlist``: print a green list, so that anybody can check a mask without our code's internals."""

import json
from typing import Annotated

import numpy as np
import typer

from sif_offline.fingerprint.greenlist import (
    DEFAULT_SCHEME,
    SCHEMES,
    GreenListError,
    context_width,
    green_mask,
    mask_digest,
)


def greenlist(
    key: Annotated[str, typer.Option(help="Integer key (64 bits, signed), or hex:<digits> for key bytes.")],
    vocab_size: Annotated[int, typer.Option(help="Pinned vocabulary size V; it is part of the key.")],
    scheme: Annotated[str, typer.Option(help=f"One of {', '.join(SCHEMES)}.")] = DEFAULT_SCHEME,
    gamma: Annotated[float, typer.Option(help="Share of green ids.")] = 0.5,
    context: Annotated[
        str | None,
        typer.Option(
            help="Token ids that a context scheme hashes, comma-separated, oldest first; all ones by default."
        ),
    ] = None,
    sha256: Annotated[
        bool, typer.Option("--sha256/--ids", help="Digest of the mask, or the green ids.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Print the green ids of a key, one a line; or the sha256 over the uint8 mask as the last word.

    Without --context a context scheme hashes as many ones as its window has tokens.
    """
    window = [1] * context_width(scheme) if context is None else _parse_context(context)
    mask = green_mask(key=_parse_key(key), vocab_size=vocab_size, gamma=gamma, scheme=scheme, context=window)
    greens = int(np.count_nonzero(mask))
    if as_json:
        row = {"scheme": scheme, "vocab_size": vocab_size, "gamma": gamma, "context": window}
        row |= {"green_size": greens, "sha256": mask_digest(mask)}
        typer.echo(json.dumps(row if sha256 else {**row, "ids": np.flatnonzero(mask).tolist()}))
    elif sha256:
        hashed = f" context={','.join(map(str, window))}" if window else ""
        typer.echo(f"{scheme} V={vocab_size}{hashed} greens={greens} sha256 {mask_digest(mask)}")
    else:
        typer.echo("\n".join(map(str, np.flatnonzero(mask))))


def _parse_context(text: str) -> list[int]:
    try:
        return [int(token) for token in text.split(",")]
    except ValueError:
        raise GreenListError(f"--context {text!r}: token ids separated by commas are expected") from None


def _parse_key(text: str) -> bytes | int:
    try:
        return bytes.fromhex(text.removeprefix("hex:")) if text.startswith("hex:") else int(text)
    except ValueError:
        # the value may be a secret: it is not repeated
        raise GreenListError("--key: an integer or hex:<digits> is expected") from None
