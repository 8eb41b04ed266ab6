"""``sif lab photos``: photographs to try things on."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sif_offline.lab.photos import PHOTO_COUNT, write_photos


def photos(
    out: Annotated[Path, typer.Option(help="Folder to write the PNGs to.")],
    count: Annotated[int, typer.Option(min=1, max=PHOTO_COUNT, help="How many.")] = PHOTO_COUNT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write real photographs, 256 x 256, cut from pictures that ship in installed packages."""
    paths = [str(path) for path in write_photos(out, count=count)]
    print(json.dumps({"photos": paths}) if as_json else "\n".join(paths))
