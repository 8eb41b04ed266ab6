"""Finished rows on disk: a run that was cut off goes on behind the last one."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Kept:
    """A file of JSON lines, each with the digest of the ``job`` that it is the result of.

    A line that was cut short is dropped. A row of another job than those asked for is never seen, so a
    changed setting measures anew and leaves the old row where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                path.write_bytes(whole)
            for line in whole.splitlines():
                row = json.loads(line)
                self._rows[row["job"]] = row

    def get(self, job: str) -> dict[str, Any] | None:
        """The finished row of ``job``."""
        return self._rows.get(job)

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a JSON-able row that has a ``job``, on disk."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows[row["job"]] = dict(row)


def digest(*parts: Any) -> str:
    """Of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
