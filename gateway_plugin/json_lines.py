"""JSON lines that people hand us: what does not fit is said with its place."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sif_offline.fingerprint.errors import SifError


def json_rows(lines: Iterable[str], *, name: str, error: type[SifError]) -> Iterator[tuple[str, Any]]:
    """Where each row stands (``name, line 3``) and its value; empty lines are passed over.

    Raises ``error`` for a line that is not JSON.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row: Any = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            raise error(f"{where}: not JSON") from None
        yield where, row
