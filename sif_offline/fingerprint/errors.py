"""The root of every error a user can cause.

::

    SifError
    ├── ImageError        images.py      a file or data URL that is no picture we would decode
    ├── KeyFileError      private_files  a key file that is missing, malformed or readable by others
    ├── WrongKeyError     keys.py        a key that does not belong to the pack
    ├── GreenListError    greenlist.py   an unknown scheme, an impossible vocabulary size, a key out of range
    ├── CalibrationError  calibration.py null models that cannot support the claim asked for
    ├── PackError         pack.py        a pack that is damaged, altered, foreign or newer than this code
    ├── MetaVError        metav/scoring  outputs or settings that a MetaV pack cannot be scored with
    ├── EvidenceError     evidence/      evidence that cannot be made, or that does not hold
    └── AllowHeaderError  allow_header.py a header that lets nothing through, or a secret that cannot sign one

The message is one line that names the file or target. A bug in the caller (a negative count, a mask of the
wrong length) is a ``ValueError`` instead: no user can do anything about it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 2
"""Exit status of a command that stopped at a ``SifError``."""


def printable(text: str) -> str:
    """``text`` with control and formatting characters as escapes: a foreign name steers no terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class SifError(Exception):
    """Something the user can put right; ``str(error)`` is always one line.

    ``exit_code`` is that of a command that ends with it: 2 for a mistake, which trying again does not mend.
    """

    exit_code = EXIT_CODE

    def __str__(self) -> str:
        return printable(" ".join(super().__str__().split()))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """For commands: a ``SifError`` becomes ``error: ...`` on stderr and its exit code; the rest passes."""
    try:
        yield
    except SifError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
