"""The ``sif-probes`` command, one subcommand a module."""

from probes.cli.app import app, main

__all__ = ["app", "main"]
