"""Alembic's entry point; the connection is handed over by ``probes.store.migrate``."""

from alembic import context

from probes.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter a table in place
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
