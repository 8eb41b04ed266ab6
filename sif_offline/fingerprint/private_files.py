"""Files that only their owner may read: made with mode 0600, refused with any other, replaced in one step."""

import fcntl
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sif_offline.fingerprint.errors import SifError

_MAX_FILE_BYTES = 16 * 2**20


class KeyFileError(SifError):
    """A key file (or variable) that is missing, malformed or readable by others. Never quotes the content."""


def read_private(path: Path) -> str:
    """The ASCII text of ``path``.

    Raises:
        KeyFileError: missing, unreadable, readable by group or others, or not ASCII.
    """
    try:
        with path.open("rb") as file:
            return _text(file, path)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from None


def write_private(path: Path, text: str) -> None:
    """Write ASCII ``text`` to a new file of mode 0600, through to the disk.

    Raises:
        KeyFileError: the file exists (it is never overwritten) or cannot be written.
    """
    try:
        _write_new(path, text)
    except FileExistsError:
        raise KeyFileError(f"{path}: exists already; a key file is never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from None


def edit_private(path: Path, edit: Callable[[str], str]) -> None:
    """Replace the text of ``path`` by ``edit(text)`` in one step: a reader, or a crash, finds the old file or
    the new one, whole.

    Editors of one file wait for each other, so that none undoes another's change. A symbolic link is
    followed, not replaced. An error of ``edit`` leaves the file as it was.

    Raises:
        KeyFileError: as :func:`read_private`, or the directory cannot be written.
    """
    target = path.resolve()
    staged = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with _locked(target) as file:
            _write_new(staged, edit(_text(file, path)))
            try:
                os.replace(staged, target)
            except BaseException:
                staged.unlink(missing_ok=True)
                raise
            _sync_directory(target.parent)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from None


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask left
            file.write(text.encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _locked(path: Path) -> BinaryIO:
    """``path`` opened and locked; the lock ends with the file object."""
    while True:
        file = path.open("rb")
        fcntl.flock(file, fcntl.LOCK_EX)
        # another editor may have put a new file in place while this one waited for the old one's lock
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
        file.close()


def _text(file: BinaryIO, path: Path) -> str:
    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # of the open file: no race with a swap of the path
    if mode & 0o077:
        raise KeyFileError(f"{path}: mode {mode:04o} lets others read the key; chmod 600 it")
    try:
        return file.read(_MAX_FILE_BYTES).decode("ascii")
    except UnicodeDecodeError:
        raise KeyFileError(f"{path}: not a key file") from None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
