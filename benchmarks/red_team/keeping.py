"""Finished rows on disk: a run that was cut off goes on behind the last one."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sif_offline.fingerprint.appending import append, whole_lines


class Kept:
    """A file of JSON lines, each with the digest of the ``job`` that it is the result of.

    A line that was cut short is dropped. A row of another job than those asked for is never seen, so a
    changed setting measures anew and leaves the old row where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows: dict[str, dict[str, Any]] = {}
        for line in whole_lines(path).splitlines():
            row = json.loads(line)
            self._rows[row["job"]] = row

    def get(self, job: str) -> dict[str, Any] | None:
        """The finished row of ``job``."""
        return self._rows.get(job)

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a JSON-able row that has a ``job``, on disk."""
        append(self._path, (json.dumps(row) + "\n").encode())
        self._rows[row["job"]] = dict(row)


def digest(*parts: Any) -> str:
    """Of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
