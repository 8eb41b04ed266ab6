"""Engines, transactions and their errors: what lies under the store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from probes.store.migrate import upgrade
from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.sqlite_wal import switch_to_wal


class StoreError(SifError):
    """The store cannot be opened, read or written, perhaps only just now."""

    exit_code = 1


class LeaseLostError(StoreError):
    """Another process took over the target; this round must not send any more."""


class Transaction:
    """``with`` a session: committed at the end, rolled back on an error, database errors as StoreError."""

    def __init__(self, sessions: Callable[[], Session], engine: Engine) -> None:
        self._sessions = sessions
        self._engine = engine

    def __enter__(self) -> Session:
        self._session = self._sessions()
        return self._session

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        try:
            if error is None:
                self._session.commit()
        except IntegrityError:
            raise
        except SQLAlchemyError as failure:
            raise _store_error(self._engine, failure) from None
        finally:
            self._session.close()
        if isinstance(error, SQLAlchemyError) and not isinstance(error, IntegrityError):
            raise _store_error(self._engine, error) from None


def _store_error(engine: Engine, error: SQLAlchemyError) -> StoreError:
    said = str(getattr(error, "orig", None) or error)
    return StoreError(f"store {engine.url.render_as_string()}: {said}")


def open_engine(url: str) -> Engine:
    """Open the database, and create or migrate its tables where it is new or older. Raises StoreError."""
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        memory = sqlite and parsed.database in (None, "", ":memory:")
        if sqlite and not memory and not Path(str(parsed.database)).parent.is_dir():
            raise StoreError(f"store {url}: no such folder")
        options: dict[str, Any] = {"poolclass": StaticPool} if memory else {"pool_pre_ping": not sqlite}
        engine = create_engine(parsed, **options)
    except (SQLAlchemyError, ImportError) as error:
        raise StoreError(f"store: {error}") from None  # never the URL itself: it may hold a password
    if sqlite:
        _tune_sqlite(engine)
    try:
        with engine.begin() as connection:
            upgrade(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        raise _store_error(engine, error) from None
    except CommandError as error:  # a store of a newer sifwatch
        engine.dispose()
        raise StoreError(f"store {engine.url.render_as_string()}: {error}") from None
    return engine


def _tune_sqlite(engine: Engine) -> None:
    """WAL, durable commits (an intent must survive a power cut), the write lock from the start."""

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in ("busy_timeout=15000", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()
        switch_to_wal(connection)

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sif_begin", "BEGIN IMMEDIATE"))
