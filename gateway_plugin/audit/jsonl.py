"""A file of one JSON object a line, which several processes may append to."""

import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from gateway_plugin.audit.record import VERSION, AuditError, AuditRecord


class JsonlSink:
    """Appends records to a file, which it makes with mode 0600 where it is missing.

    The file is opened anew for each batch, so that logrotate may rename it and a process may fork; a lock
    keeps the lines of several writers apart. What a crash cut short stays alone on its line.

    Args:
        path: of the file; its folder must exist.
        fsync: put every batch through to the disk.

    Raises:
        AuditError: the file cannot be opened for appending, or is no regular file.
    """

    def __init__(self, path: str | Path, *, fsync: bool = False) -> None:
        self._path, self._fsync = Path(path), fsync
        self.write(())

    def __repr__(self) -> str:
        return f"JsonlSink({str(self._path)!r})"

    def write(self, records: Sequence[AuditRecord]) -> None:
        """Append one line a record, all or none. Raises AuditError."""
        data = b"".join(_line(record) for record in records)
        try:
            descriptor = self._open()
            try:
                self._append(descriptor, data)
            finally:
                os.close(descriptor)  # and its lock with it
        except OSError as error:
            raise AuditError(f"audit file {self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        """Nothing is held open between two batches."""

    def _open(self) -> int:
        # not blocking, or a named pipe would wait for a reader
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise AuditError(f"audit file {self._path}: not a regular file")
        return descriptor

    def _append(self, descriptor: int, data: bytes) -> None:
        if not data:
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = os.fstat(descriptor).st_size
        if before and os.pread(descriptor, 1, before - 1) != b"\n":
            data = b"\n" + data  # whoever wrote last was cut off
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if self._fsync:
                os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, min(before, os.fstat(descriptor).st_size))
            raise


class JsonlRecords(Iterator[Mapping[str, Any]]):
    """The records of a file, oldest first; ``skipped`` counts the lines so far that hold none.

    Raises:
        AuditError: the file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.skipped = 0
        self._records = self._read(Path(path), _open_to_read(Path(path)))

    def __next__(self) -> Mapping[str, Any]:
        return next(self._records)

    def _read(self, path: Path, file: BinaryIO) -> Iterator[Mapping[str, Any]]:
        try:
            with file:
                for line in file:
                    record = _parse(line)
                    if record is None:
                        self.skipped += 1
                    else:
                        yield record
        except OSError as error:
            raise AuditError(f"audit file {path}: {error.strerror or error}") from None


def read_jsonl(path: str | Path) -> JsonlRecords:
    """The records that :class:`JsonlSink` wrote, one at a time; torn lines are skipped and counted in the
    result's ``skipped``. Raises AuditError.
    """
    return JsonlRecords(path)


def _open_to_read(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise AuditError(f"audit file {path}: {error.strerror or error}") from None


def _line(record: AuditRecord) -> bytes:
    row = record.row()
    at = row.pop("at").isoformat(timespec="microseconds")
    said = {"version": VERSION, "audit_id": row.pop("audit_id"), "at": at, **row}
    # ASCII: no reader sees another line end in a text, no terminal a control character
    return json.dumps(said, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "audit_id" in record else None
