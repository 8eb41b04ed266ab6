"""One master secret, one independent key for each trigger.

``trigger key = HKDF-SHA256(master, info)`` (RFC 5869, empty salt), where ``info`` is the length-prefixed
fields ``"sif/v1"``, owner, model hash, trigger id. Independent keys make the answers to different triggers
independent under the null, which is what lets them be added up (see ``scoring.combine``). The pack
carries only a commitment to each key.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.master import (
    DEMO_SECRET,
    ENVIRONMENT_VARIABLE,
    KEY_BYTES,
    KeyRing,
    MasterSecret,
    hkdf,
    length_prefixed,
    master_from_environment,
    read_key_file,
    read_key_ring,
    ring_from_environment,
    rotate_key_file,
    write_key_file,
)
from sif_offline.fingerprint.private_files import KeyFileError, read_private, write_private

if TYPE_CHECKING:
    from sif_offline.fingerprint.pack import FingerprintPack

__all__ = [
    "DEMO_SECRET",
    "ENVIRONMENT_VARIABLE",
    "KEY_BYTES",
    "KeyFileError",
    "KeyRing",
    "MasterSecret",
    "TriggerKeys",
    "WrongKeyError",
    "derive_pack_keys",
    "derive_trigger_key",
    "int_key",
    "key_commitment",
    "length_prefixed",
    "master_from_environment",
    "opening_generation",
    "read_key_file",
    "read_key_ring",
    "ring_from_environment",
    "rotate_key_file",
    "write_key_file",
]

_KEYS_KIND = "sif-trigger-keys"


class WrongKeyError(SifError):
    """A key that does not open the pack's commitments."""


def derive_trigger_key(secret: MasterSecret, *, owner: str, model_hash: str, trigger_id: str) -> bytes:
    """The 32-byte key of one trigger: HKDF-SHA256, one block (RFC 5869, sections 2.2 and 2.3)."""
    return hkdf(secret, length_prefixed("sif/v1", owner, model_hash, trigger_id))


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

    def subset(self, ids: Iterable[str]) -> "TriggerKeys":
        """The keys of some triggers alone, in the order of ``ids``: what an evidence bundle discloses.

        Raises:
            WrongKeyError: there is no key for one of them.
        """
        wanted = dict.fromkeys(ids)
        for trigger_id in wanted:
            if trigger_id not in self.keys:
                raise WrongKeyError(f"pack {self.pack_id}: no key for trigger {trigger_id}")
        return TriggerKeys(
            pack_id=self.pack_id, keys={trigger_id: self.keys[trigger_id] for trigger_id in wanted}
        )

    def check(self, pack: "FingerprintPack", *, only: Iterable[str] | None = None) -> None:
        """Raise ``WrongKeyError`` unless every trigger of ``pack`` has a key that opens its commitment.

        Args:
            pack: the pack.
            only: check these triggers alone, each of which ``pack`` must have; None for all, as scoring the
                pack needs.
        """
        rows = {row.id: row for row in pack.triggers}
        for trigger_id in rows if only is None else only:
            key = self.keys.get(trigger_id)
            if trigger_id not in rows:
                raise WrongKeyError(f"pack {pack.pack_id}: has no trigger {trigger_id}")
            if key is None:
                raise WrongKeyError(f"pack {pack.pack_id}: no key for trigger {trigger_id}")
            if not hmac.compare_digest(key_commitment(trigger_id, key), rows[trigger_id].key_commitment):
                raise WrongKeyError(f"pack {pack.pack_id}: wrong key for trigger {trigger_id}")

    def write(self, path: str | Path) -> None:
        """Write the keys as JSON to a new file of mode 0600; an existing file is never overwritten."""
        keys = {trigger_id: key.hex() for trigger_id, key in self.keys.items()}
        body = {"kind": _KEYS_KIND, "schema_version": 1, "pack_id": self.pack_id, "keys": keys}
        write_private(Path(path), json.dumps(body, indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> "TriggerKeys":
        """Read what :meth:`write` wrote.

        Raises:
            KeyFileError: missing, malformed, or readable by group or others.
        """
        text = read_private(Path(path))
        try:
            body = json.loads(text)
            if body["kind"] != _KEYS_KIND or body["schema_version"] != 1:
                raise ValueError("foreign file")
            keys = {str(trigger_id): bytes.fromhex(key) for trigger_id, key in body["keys"].items()}
            return cls(pack_id=str(body["pack_id"]), keys=keys)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise KeyFileError(f"{path}: not a file of trigger keys (sif keys derive writes one)") from None


def opening_generation(ring: KeyRing, pack: "FingerprintPack") -> int | None:
    """Place in ``ring.generations`` of the one that opens the commitments of ``pack``; None where none does.

    This is no search over keys that a test would have to count: the commitments were fixed before any text.
    """
    for place, secret in enumerate(ring.generations):
        try:
            _derive(secret, pack).check(pack)
        except WrongKeyError:
            continue
        return place
    return None


def derive_pack_keys(secret: MasterSecret | KeyRing, pack: "FingerprintPack") -> TriggerKeys:
    """All trigger keys of ``pack``, checked against its commitments.

    Args:
        secret: a master secret, or the generations of one, of which the first that opens the pack counts.
        pack: the pack.

    Raises:
        WrongKeyError: the pack was forged under another master secret.
    """
    ring = KeyRing((secret,)) if isinstance(secret, MasterSecret) else secret
    place = opening_generation(ring, pack)
    if place is None and len(ring.generations) > 1:
        raise WrongKeyError(
            f"pack {pack.pack_id}: none of the {len(ring.generations)} generations of the key opens it"
        )
    derived = _derive(ring.generations[place or 0], pack)
    derived.check(pack)  # names the trigger where a sole generation does not fit
    return derived


def _derive(secret: MasterSecret, pack: "FingerprintPack") -> TriggerKeys:
    owner, model_hash = pack.owner.id, pack.owner.weights_sha256
    keys = {
        row.id: derive_trigger_key(secret, owner=owner, model_hash=model_hash, trigger_id=row.id)
        for row in pack.triggers
    }
    return TriggerKeys(pack_id=pack.pack_id, keys=keys)
