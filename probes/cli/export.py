"""``sif-probes export``."""

import csv
import json
import sys
from pathlib import Path
from typing import Annotated, Literal, TextIO

import typer

from probes.cli.options import ConfigOption
from probes.config import load_config
from probes.store import Store, open_store
from probes.store.export import COLUMNS, exported
from sif_offline.fingerprint.errors import SifError


def export(
    config: ConfigOption,
    out: Annotated[Path | None, typer.Option(help="File to write [standard output].")] = None,
    as_format: Annotated[Literal["jsonl", "csv"], typer.Option("--format")] = "jsonl",
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
) -> None:
    """Write every send with its answer and score, one row each, oldest first. Raw replies are not in it."""
    with open_store(load_config(config).store) as store:
        if out is None:
            _write(sys.stdout, store, as_format=as_format, targets=target)
            return
        try:
            with out.open("x", encoding="utf-8", newline="") as file:
                count = _write(file, store, as_format=as_format, targets=target)
        except OSError as error:
            raise SifError(f"{out}: {error.strerror or error}") from None
    typer.echo(f"{out}: {count} rows")


def _write(file: TextIO, store: Store, *, as_format: str, targets: list[str] | None) -> int:
    count = 0
    table = csv.DictWriter(file, COLUMNS)
    if as_format == "csv":
        table.writeheader()
    for count, row in enumerate(exported(store, targets), start=1):  # noqa: B007
        if as_format == "csv":
            table.writerow(row)
        else:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count
