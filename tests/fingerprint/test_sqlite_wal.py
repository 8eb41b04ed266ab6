"""The switch to SQLite's write-ahead log while somebody else has the file."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sif_offline.fingerprint.sqlite_wal import switch_to_wal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "new.db"
    with closing(sqlite3.connect(found)) as connection:
        connection.execute("CREATE TABLE t (a)")
    return found


@contextmanager
def written_by_another(path: Path, *, seconds: float) -> Iterator[None]:
    """Another connection has the write lock for so long, and longer where the block ends before."""
    begun = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            begun.set()
            time.sleep(seconds)
            connection.execute("COMMIT")

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(10)
    yield
    thread.join()


def test_sqlite_itself_does_not_wait(path: Path) -> None:
    """Why there is such a function at all."""
    with (
        closing(sqlite3.connect(path, timeout=10)) as connection,
        written_by_another(path, seconds=0.5),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        connection.execute("PRAGMA journal_mode=WAL")


def test_the_switch_waits_for_whoever_writes(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        with written_by_another(path, seconds=0.3):
            switch_to_wal(connection)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_it_waits_no_longer_than_the_connection_would(path: Path) -> None:
    with (
        closing(sqlite3.connect(path, timeout=0.05)) as connection,
        written_by_another(path, seconds=1),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        switch_to_wal(connection)


def test_what_cannot_be_written_is_said_at_once(path: Path) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            switch_to_wal(connection)
        assert time.monotonic() - began < 20
