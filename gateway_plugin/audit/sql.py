"""A table in SQLite or PostgreSQL, which several gateways may write to."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import (
    JSON,
    URL,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Executable,
    Index,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool

from gateway_plugin.audit.record import AuditError, AuditRecord
from sif_offline.fingerprint.sqlite_wal import switch_to_wal

TABLE = Table(
    "sif_gateway_audit",
    MetaData(),
    Column("audit_id", String(64), primary_key=True),
    Column("phase", String(64), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),  # SQLite keeps no zone: it is UTC
    *(Column(name, Text, nullable=False) for name in ("guardrail", "route", "call_id", "model")),
    *(Column(name, Text, nullable=False) for name in ("team", "key", "end_user")),
    *(Column(name, Text, nullable=False) for name in ("action", "effective", "by")),
    Column("dry_run", Boolean, nullable=False),
    *(Column(name, JSON, nullable=False) for name in ("bypassed", "findings", "billed_models", "reference")),
    Column("replaced_by", Text, nullable=False),
    Column("prompt", Text),
    Column("answer", Text),
    Index("ix_sif_gateway_audit_at", "at"),
)
"""One row an ``audit_id`` and ``phase``; ``findings`` is JSON: check -> status, measures, reason."""

_SCHEMA_LOCK = 0x51F_A0D17
"""PostgreSQL's advisory lock that orders those who would create the table."""

_INSERTS: Mapping[str, Executable] = {
    "sqlite": sqlite.insert(TABLE).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(TABLE).on_conflict_do_nothing(),
}
_TIMEOUT_S = 10
"""For a connection to PostgreSQL, or for SQLite's other writers; a URL may say otherwise."""


class SqlSink:
    """Appends records to the table ``sif_gateway_audit``, made where it is missing.

    A batch is one transaction. One that is tried again, because nobody knows whether it was committed, leaves
    no record twice. Once the table is there, a role is enough that may insert into it and nothing else: the
    gateway can then add to the record and change none of it.

    Args:
        url: of SQLite (a file) or PostgreSQL, as SQLAlchemy reads it.

    Raises:
        AuditError: no such database or driver, no right to write, or a table of another form.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._insert = _INSERTS[self._engine.dialect.name]
        self._process = os.getpid()
        try:
            with self._engine.begin() as connection:
                _create(connection)
            self._try_out()
        except SQLAlchemyError as error:
            self._fail(error)
        finally:
            self._engine.dispose()  # a process that forks after this shares no connection

    def __repr__(self) -> str:
        return f"SqlSink({_shown(self._engine.url)!r})"

    def write(self, records: Sequence[AuditRecord]) -> None:
        """Insert all records, or none. Raises AuditError where the database cannot be reached or written; a
        record that it refuses raises SQLAlchemy's error.
        """
        if os.getpid() != self._process:  # forked: the connections are the parent's
            self._engine.dispose(close=False)
            self._process = os.getpid()
        rows = [record.row() for record in records]
        try:
            with self._engine.begin() as connection:
                connection.execute(self._insert, rows)
        except (OperationalError, InterfaceError, InternalError, ProgrammingError) as error:
            self._fail(error)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _try_out(self) -> None:
        """Insert a row and take it back: are there the columns, and the right to fill them?"""
        row = AuditRecord(phase="start-up", action="", effective="").row()
        with self._engine.connect() as connection:
            connection.execute(self._insert, [row])
            connection.rollback()

    def _fail(self, error: SQLAlchemyError) -> NoReturn:
        # The first line of what the driver said: SQLAlchemy's own text, and PostgreSQL's DETAIL, hold values.
        cause = error.orig if isinstance(error, DBAPIError) else error
        said = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise AuditError(f"audit table {_shown(self._engine.url)}: {said}") from None


def _shown(url: URL) -> str:
    """Without the password, which may stand in the query too."""
    return url.set(query={}).render_as_string()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        if kind not in _INSERTS:
            raise AuditError(f"audit table: {kind} is not supported; sqlite and postgresql are")
        if kind == "sqlite":
            return _sqlite(parsed)
        options: dict[str, Any] = {}
        if "psycopg" in parsed.get_driver_name() and "connect_timeout" not in parsed.query:
            options["connect_timeout"] = _TIMEOUT_S
        engine = create_engine(
            parsed, connect_args=options, pool_size=1, pool_pre_ping=True, hide_parameters=True
        )
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        # never the URL itself: it may hold a password
        said = "not a URL that SQLAlchemy reads" if isinstance(error, ArgumentError) else str(error)
        raise AuditError(f"audit table: {said}") from None
    if engine.dialect.is_async:
        raise AuditError("audit table: an asynchronous driver; postgresql+psycopg is one that works")
    return engine


def _sqlite(url: URL) -> Engine:
    """An engine whose file has mode 0600 where it is new."""
    if url.database in (None, "", ":memory:"):
        raise AuditError("audit table: a database in memory keeps nothing; name a file")
    path = Path(str(url.database))
    if not path.parent.is_dir():
        raise AuditError(f"audit table {_shown(url)}: no such folder")
    options = {} if "timeout" in url.query else {"timeout": _TIMEOUT_S}
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=options)
    if not path.exists():
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise AuditError(f"audit table {_shown(url)}: {error.strerror or error}") from None

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        switch_to_wal(connection)
        connection.execute("PRAGMA synchronous=NORMAL").close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # wait for other writers now, not half-way

    return engine


def _create(connection: Connection) -> None:
    """The table, where it is missing; whoever else starts at this moment waits."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SCHEMA_LOCK})
    # looked for first: a role that may only insert is refused a CREATE TABLE IF NOT EXISTS
    if not inspect(connection).has_table(TABLE.name):
        TABLE.create(connection)
