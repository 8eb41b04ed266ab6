"""``sif lab photos``: photographs to try things on."""

from pathlib import Path
from typing import Annotated

import typer

from sif_offline.lab.photos import PHOTO_COUNT, write_photos


def photos(
    out: Annotated[Path, typer.Option(help="Folder to write the PNGs to.")],
    count: Annotated[int, typer.Option(min=1, max=PHOTO_COUNT, help="How many.")] = PHOTO_COUNT,
) -> None:
    """Write real photographs, 256 x 256, cut from pictures that ship in installed packages."""
    for path in write_photos(out, count=count):
        print(path)
