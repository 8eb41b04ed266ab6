"""The master secret, its generations, and where they are kept: a key file or the environment.

A trigger is optimised under its key, so the master beneath an existing pack cannot be exchanged. Rotation is
therefore a fresh master for packs forged from now on, while the old ones stay readable: a key file holds one
``sif-master-v1:<64 hex digits>`` a line, the newest first.
"""

import hashlib
import hmac
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sif_offline.fingerprint.private_files import KeyFileError, edit_private, read_private, write_private

KEY_BYTES = 32
"""Length of the master secret and of every trigger key."""
ENVIRONMENT_VARIABLE = "SIF_MASTER_KEY"

_MASTER_PREFIX = "sif-master-v1:"


class MasterSecret:
    """32 secret bytes; immutable, compared in constant time, masked when printed, refused by pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if len(value) != KEY_BYTES:
            raise ValueError(f"a master secret has {KEY_BYTES} bytes, got {len(value)}")
        object.__setattr__(self, "_value", bytes(value))

    @classmethod
    def generate(cls) -> "MasterSecret":
        """A fresh secret from the operating system."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def from_bytes(cls, value: bytes) -> "MasterSecret":
        """The secret made of exactly these 32 bytes."""
        return cls(value)

    def reveal(self) -> bytes:
        """The 32 bytes themselves; for key derivation and for the key file alone."""
        return self._value  # type: ignore[no-any-return, attr-defined]

    @property
    def is_demo(self) -> bool:
        """Whether this is the published demo secret, which protects nothing."""
        return self == DEMO_SECRET

    @property
    def fingerprint(self) -> str:
        """16 hex digits that tell this secret from others and say nothing else about it.

        The start of sha256 over the length-prefixed ``"sif/v1/fingerprint"`` and a value derived by
        :func:`hkdf` for this purpose alone; the master itself is not hashed.
        """
        check = hkdf(self, length_prefixed("sif/v1/check"))
        return hashlib.sha256(length_prefixed("sif/v1/fingerprint", check)).hexdigest()[:16]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a master secret is immutable")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a master secret is not pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MasterSecret) and hmac.compare_digest(self.reveal(), other.reveal())

    def __hash__(self) -> int:
        return hash(("MasterSecret", self.reveal()))

    def __repr__(self) -> str:
        return "MasterSecret(**********)"


DEMO_SECRET = MasterSecret(hashlib.sha256(b"sifwatch demo secret: published, protects nothing").digest())
"""The published secret of the demo and the tests; a real forge refuses it."""


@dataclass(frozen=True, repr=False)
class KeyRing:
    """The generations of a master secret; masked when printed, refused by pickle.

    Attributes:
        generations: newest first, at least one, all different.
    """

    generations: tuple[MasterSecret, ...]

    def __post_init__(self) -> None:
        if not self.generations or len(set(self.generations)) < len(self.generations):
            raise ValueError("a key ring holds at least one generation, and none twice")

    @property
    def current(self) -> MasterSecret:
        """The generation that new packs are forged under."""
        return self.generations[0]

    def __repr__(self) -> str:
        return f"KeyRing(<{len(self.generations)} masked>)"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a key ring is not pickled")


def length_prefixed(*fields: str | bytes) -> bytes:
    """The fields, each behind its length as a big-endian uint32, so that no two lists share an encoding."""
    parts = [field.encode() if isinstance(field, str) else field for field in fields]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def hkdf(secret: MasterSecret, info: bytes) -> bytes:
    """HKDF-SHA256 with an empty salt, 32 bytes, which is one block (RFC 5869, sections 2.2 and 2.3)."""
    pseudorandom = hmac.digest(bytes(KEY_BYTES), secret.reveal(), "sha256")
    return hmac.digest(pseudorandom, info + b"\x01", "sha256")


def read_key_ring(path: str | Path) -> KeyRing:
    """Read every generation of a key file.

    Raises:
        KeyFileError: missing, malformed, or readable by group or others.
    """
    return _parse(read_private(Path(path)), name=str(path))


def read_key_file(path: str | Path) -> MasterSecret:
    """Read the current master secret; ``KeyFileError`` as :func:`read_key_ring`."""
    return read_key_ring(path).current


def write_key_file(path: str | Path, secret: MasterSecret) -> None:
    """Write ``secret`` to a new file of mode 0600.

    Raises:
        KeyFileError: the file exists (it is never overwritten) or cannot be written.
    """
    write_private(Path(path), _line(secret))


def rotate_key_file(path: str | Path) -> KeyRing:
    """Put a fresh generation on top of a key file, in one step; returns what the file holds now.

    Raises:
        KeyFileError: as :func:`read_key_ring`; the file holds the published demo secret, which a rotation
            would not make safe; or it cannot be replaced. The file is then as it was.
    """
    fresh = MasterSecret.generate()

    def add(text: str) -> str:
        ring = _parse(text, name=str(path))
        if any(secret.is_demo for secret in ring.generations):
            raise KeyFileError(
                f"{path}: holds the published demo secret, which protects nothing; sif keys new makes a key"
            )
        return "".join(map(_line, (fresh, *ring.generations)))

    edit_private(Path(path), add)
    return read_key_ring(path)


def ring_from_environment(variable: str = ENVIRONMENT_VARIABLE) -> KeyRing | None:
    """The generations in ``variable`` (the content of a key file), or None where it is not set.

    Raises:
        KeyFileError: set, but malformed.
    """
    text = os.environ.get(variable)
    return None if not text else _parse(text, name=f"environment variable {variable}")


def master_from_environment(variable: str = ENVIRONMENT_VARIABLE) -> MasterSecret | None:
    """The current master secret in ``variable``, as :func:`ring_from_environment`."""
    ring = ring_from_environment(variable)
    return None if ring is None else ring.current


def _line(secret: MasterSecret) -> str:
    return f"{_MASTER_PREFIX}{secret.reveal().hex()}\n"


def _parse(text: str, *, name: str) -> KeyRing:
    lines = text.strip().splitlines()
    generations = []
    for number, line in enumerate(lines, start=1):
        try:
            prefix, value = line.strip().split(":")
            if f"{prefix}:" != _MASTER_PREFIX:
                raise ValueError("foreign prefix")
            generations.append(MasterSecret(bytes.fromhex(value)))
        except ValueError:
            where = f"{name}: line {number}" if len(lines) > 1 else name
            raise KeyFileError(
                f"{where}: not a master key ({_MASTER_PREFIX}<64 hex digits> expected)"
            ) from None
    if not generations:
        raise KeyFileError(f"{name}: not a master key ({_MASTER_PREFIX}<64 hex digits> expected)")
    if len(set(generations)) < len(generations):
        raise KeyFileError(f"{name}: holds one generation of the key twice")
    return KeyRing(tuple(generations))
