"""``sif-probes db``."""

import typer

from probes.cli.options import ConfigOption
from probes.config import load_config
from probes.store import open_store
from probes.store.migrate import newest_revision

database = typer.Typer(no_args_is_help=True, help="The store's schema.")


@database.callback()
def _group() -> None:
    """Keep ``upgrade`` a subcommand, though it is the only one."""


@database.command()
def upgrade(config: ConfigOption) -> None:
    """Create the store's tables, or bring them to this version's schema. Every other command does so too."""
    with open_store(load_config(config).store) as store:
        typer.echo(f"{store.engine.url.render_as_string()}: schema {newest_revision()}")
