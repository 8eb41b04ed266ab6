"""SQLite's write-ahead log, where several processes open one new file at the same moment."""

import sqlite3

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random


def switch_to_wal(connection: sqlite3.Connection) -> None:
    """Journal ahead of writing (``PRAGMA journal_mode=WAL``), which the file then keeps.

    For this one switch SQLite does not wait for others, whatever the connection's ``busy_timeout`` says: it
    answers that the database is locked. So the switch is tried again for as long as that.

    Raises:
        sqlite3.OperationalError: locked all the time, or not to be written.
    """
    ((milliseconds,),) = connection.execute("PRAGMA busy_timeout").fetchall()
    retrying = Retrying(
        retry=retry_if_exception(_is_busy),
        stop=stop_after_delay(milliseconds / 1000),
        wait=wait_random(0.005, 0.05),
        reraise=True,
    )
    retrying(connection.execute, "PRAGMA journal_mode=WAL").close()


def _is_busy(error: BaseException) -> bool:
    return (
        isinstance(error, sqlite3.OperationalError)
        and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # the rest says why it is busy
    )
