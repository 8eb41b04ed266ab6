"""The audit record: who asked what kind of thing, what each check measured, and what was done about it.

record.py    one screened exchange, and its form in a file or a table
log.py       the queue between the gateway and a sink: never in traffic's way
jsonl.py     a file of one JSON object a line, and its reader
sql.py       a table of SQLite or PostgreSQL
"""

from gateway_plugin.audit.jsonl import JsonlRecords, JsonlSink, read_jsonl
from gateway_plugin.audit.log import AuditLog
from gateway_plugin.audit.record import AuditError, AuditRecord, AuditSink

__all__ = [
    "AuditError",
    "AuditLog",
    "AuditRecord",
    "AuditSink",
    "JsonlRecords",
    "JsonlSink",
    "open_sink",
    "read_jsonl",
]


def open_sink(target: str, *, fsync: bool = False) -> AuditSink:
    """The sink that ``target`` names, tried out: a path, or an SQLAlchemy URL (anything with ``://``).

    Args:
        target: ``audit.jsonl``, ``sqlite:///audit.db``, ``postgresql+psycopg://user:password@host/base``.
        fsync: for a file: every batch through to the disk before the next.

    Raises:
        AuditError: nothing can be written there, in one line without the URL's password.
    """
    if "://" not in target:
        return JsonlSink(target, fsync=fsync)
    from gateway_plugin.audit.sql import SqlSink  # SQLAlchemy only where a table is wanted

    return SqlSink(target)
