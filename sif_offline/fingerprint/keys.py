"""One master secret, one independent key for each trigger.

``trigger key = HKDF-SHA256(master, info)`` (RFC 5869, empty salt), where ``info`` is the length-prefixed
fields ``"sif/v1"``, owner, model hash, trigger id. Independent keys make the answers to different triggers
independent under the null, which is what lets them be added up (see ``scoring.combine``). The pack
carries only a commitment to each key.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from sif_offline.fingerprint.errors import SifError

if TYPE_CHECKING:
    from sif_offline.fingerprint.pack import FingerprintPack

KEY_BYTES = 32
"""Length of the master secret and of every trigger key."""
ENVIRONMENT_VARIABLE = "SIF_MASTER_KEY"

_MASTER_PREFIX = "sif-master-v1:"
_KEYS_KIND = "sif-trigger-keys"
_MAX_FILE_BYTES = 16 * 2**20


class KeyFileError(SifError):
    """A key file (or variable) that is missing, malformed or readable by others. Never quotes the content."""


class WrongKeyError(SifError):
    """A key that does not open the pack's commitments."""


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


def length_prefixed(*fields: str | bytes) -> bytes:
    """The fields, each behind its length as a big-endian uint32, so that no two lists share an encoding."""
    parts = [field.encode() if isinstance(field, str) else field for field in fields]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def derive_trigger_key(secret: MasterSecret, *, owner: str, model_hash: str, trigger_id: str) -> bytes:
    """The 32-byte key of one trigger: HKDF-SHA256, one block (RFC 5869, sections 2.2 and 2.3)."""
    pseudorandom = hmac.digest(bytes(KEY_BYTES), secret.reveal(), "sha256")
    info = length_prefixed("sif/v1", owner, model_hash, trigger_id)
    return hmac.digest(pseudorandom, info + b"\x01", "sha256")


def int_key(number: int) -> bytes:
    """The key bytes of an integer key (``--key 0``): signed 64-bit little-endian, 8 bytes.

    This is numpy's int64, so that it is also what Zhao's reference code hashes. 8 bytes never meet a
    derived key, which has 32.

    Raises:
        OverflowError: ``number`` does not fit in 64 bits.
    """
    return number.to_bytes(8, "little", signed=True)


def key_commitment(trigger_id: str, key: bytes) -> str:
    """Hex sha256 over the length-prefixed ``"sif/v1/commit"``, trigger id, key: binding and hiding for a
    32-byte key.
    """
    return hashlib.sha256(length_prefixed("sif/v1/commit", trigger_id, key)).hexdigest()


@dataclass(frozen=True, repr=False)
class TriggerKeys:
    """The trigger keys of one pack, without the master: all that a probe host ever holds.

    Attributes:
        pack_id: the pack they belong to.
        keys: trigger id -> 32 bytes.
    """

    pack_id: str
    keys: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for trigger_id, key in self.keys.items():
            if len(key) != KEY_BYTES:
                raise ValueError(f"key of trigger {trigger_id!r} has {len(key)} bytes, needs {KEY_BYTES}")
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))

    def __repr__(self) -> str:
        return f"TriggerKeys(pack_id={self.pack_id!r}, keys=<{len(self.keys)} masked>)"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("trigger keys are not pickled")

    def check(self, pack: "FingerprintPack") -> None:
        """Raise ``WrongKeyError`` unless every trigger of ``pack`` has a key that opens its commitment."""
        for row in pack.triggers:
            key = self.keys.get(row.id)
            if key is None:
                raise WrongKeyError(f"pack {pack.pack_id}: no key for trigger {row.id}")
            if not hmac.compare_digest(key_commitment(row.id, key), row.key_commitment):
                raise WrongKeyError(f"pack {pack.pack_id}: wrong key for trigger {row.id}")

    def write(self, path: str | Path) -> None:
        """Write the keys as JSON to a new file of mode 0600; an existing file is never overwritten."""
        keys = {trigger_id: key.hex() for trigger_id, key in self.keys.items()}
        body = {"kind": _KEYS_KIND, "schema_version": 1, "pack_id": self.pack_id, "keys": keys}
        _write_private(Path(path), json.dumps(body, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> "TriggerKeys":
        """Read what :meth:`write` wrote.

        Raises:
            KeyFileError: missing, malformed, or readable by group or others.
        """
        text = _read_private(Path(path))
        try:
            body = json.loads(text)
            if body["kind"] != _KEYS_KIND or body["schema_version"] != 1:
                raise ValueError("foreign file")
            keys = {str(trigger_id): bytes.fromhex(key) for trigger_id, key in body["keys"].items()}
            return cls(pack_id=str(body["pack_id"]), keys=keys)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise KeyFileError(f"{path}: not a file of trigger keys (sif keys derive writes one)") from None


def derive_pack_keys(secret: MasterSecret, pack: "FingerprintPack") -> TriggerKeys:
    """All trigger keys of ``pack``, checked against its commitments.

    Raises:
        WrongKeyError: the pack was forged under another master secret.
    """
    keys = {
        row.id: derive_trigger_key(
            secret, owner=pack.owner.id, model_hash=pack.owner.weights_sha256, trigger_id=row.id
        )
        for row in pack.triggers
    }
    derived = TriggerKeys(pack_id=pack.pack_id, keys=keys)
    derived.check(pack)
    return derived


def read_key_file(path: str | Path) -> MasterSecret:
    """Read a master secret.

    Raises:
        KeyFileError: missing, malformed, or readable by group or others.
    """
    return _parse_master(_read_private(Path(path)), name=str(path))


def write_key_file(path: str | Path, secret: MasterSecret) -> None:
    """Write ``secret`` to a new file of mode 0600.

    Raises:
        KeyFileError: the file exists (it is never overwritten) or cannot be written.
    """
    _write_private(Path(path), f"{_MASTER_PREFIX}{secret.reveal().hex()}\n")


def master_from_environment(variable: str = ENVIRONMENT_VARIABLE) -> MasterSecret | None:
    """The master secret in ``variable`` (the content of a key file), or None where it is not set.

    Raises:
        KeyFileError: set, but malformed.
    """
    text = os.environ.get(variable)
    return None if not text else _parse_master(text, name=f"environment variable {variable}")


def _parse_master(text: str, *, name: str) -> MasterSecret:
    try:
        prefix, value = text.strip().split(":")
        if f"{prefix}:" != _MASTER_PREFIX:
            raise ValueError("foreign prefix")
        return MasterSecret(bytes.fromhex(value))
    except ValueError:
        raise KeyFileError(f"{name}: not a master key ({_MASTER_PREFIX}<64 hex digits> expected)") from None


def _read_private(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode  # of the open file: no race with a swap of the path
            if stat.S_IMODE(mode) & 0o077:
                raise KeyFileError(
                    f"{path}: mode {stat.S_IMODE(mode):04o} lets others read the key; chmod 600 it"
                )
            return file.read(_MAX_FILE_BYTES).decode("ascii")
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise KeyFileError(f"{path}: not a key file") from None


def _write_private(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path}: exists already; a key file is never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask left
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:
        path.unlink(missing_ok=True)
        raise KeyFileError(f"{path}: {error}") from None
