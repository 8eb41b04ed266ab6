"""``sif greenlist``: print a green list, so that anybody can check a mask without our code's internals."""

from typing import Annotated

import numpy as np
import typer

from sif_offline.fingerprint.greenlist import DEFAULT_SCHEME, SCHEMES, GreenListError, green_mask, mask_digest


def greenlist(
    key: Annotated[str, typer.Option(help="Integer key (64 bits, signed), or hex:<digits> for key bytes.")],
    vocab_size: Annotated[int, typer.Option(help="Pinned vocabulary size V; it is part of the key.")],
    scheme: Annotated[str, typer.Option(help=f"One of {', '.join(SCHEMES)}.")] = DEFAULT_SCHEME,
    gamma: Annotated[float, typer.Option(help="Share of green ids.")] = 0.5,
    sha256: Annotated[
        bool, typer.Option("--sha256/--ids", help="Digest of the mask, or the green ids.")
    ] = False,
) -> None:
    """Print the green ids of a key, one a line; or the sha256 over the uint8 mask as the last word."""
    mask = green_mask(key=_parse_key(key), vocab_size=vocab_size, gamma=gamma, scheme=scheme)
    if sha256:
        typer.echo(f"{scheme} V={vocab_size} greens={int(mask.sum())} sha256 {mask_digest(mask)}")
    else:
        typer.echo("\n".join(map(str, np.flatnonzero(mask))))


def _parse_key(text: str) -> bytes | int:
    try:
        return bytes.fromhex(text.removeprefix("hex:")) if text.startswith("hex:") else int(text)
    except ValueError:
        # the value may be a secret: it is not repeated
        raise GreenListError("--key: an integer or hex:<digits> is expected") from None
