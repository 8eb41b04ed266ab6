"""Files of lines that grow while a run lasts, and that a run which was killed takes up again."""

import os
from pathlib import Path


def append(path: Path, data: bytes) -> None:
    """Put whole lines behind what ``path`` holds, on disk when this returns. A kill leaves all of them or the
    beginning of them; :func:`whole_lines` cuts off a last one that is torn. Raises OSError.
    """
    with path.open("ab", buffering=0) as file:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())


def whole_lines(path: Path) -> bytes:
    """The lines of ``path``, none where there is no file; a last one that a kill cut short is dropped, from
    the file too. Raises OSError.
    """
    if not path.exists():
        return b""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return whole
