"""Options that several commands share, and how they print."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sif_offline.fingerprint.scoring import INDEPENDENT_TEXT, UNRELATED_MODEL

INDEPENDENT, UNRELATED = f"p,\n{INDEPENDENT_TEXT}", f"log10 e,\n{UNRELATED_MODEL}"
CONFORMAL = "p,\none more held-out model"
"""Headings: a figure always stands under the name of the null hypothesis it is against."""

ConfigOption = Annotated[Path, typer.Option("--config", help="The probes' YAML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def console() -> Console:
    """Tables keep their columns when they are piped: there is no window to fit into."""
    return Console(width=None if sys.stdout.isatty() else 160)


def number(value: float | None) -> str:
    """Two places, or a dash."""
    return "-" if value is None else f"{value:.2f}"
