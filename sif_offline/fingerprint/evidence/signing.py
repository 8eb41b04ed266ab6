"""Ed25519 keys and DSSE envelopes (Dead Simple Signing Envelope v1).

The envelope signs ``PAE(payload type, payload)``, the bytes themselves, so that nothing is parsed before its
signature holds. It is written here instead of through ``securesystemslib.dsse``: that needs 0.35 s to import,
and it looks a signature up by its ``keyid``, which the DSSE specification calls an unauthenticated hint; what
remains is one line of encoding. The tests hold that either library opens the other's envelopes.
"""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from sif_offline.fingerprint.evidence.canonical import decode_base64
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.private_files import KeyFileError, read_private, write_private

MAX_PAYLOAD_BYTES = 64 * 2**20
"""Larger payloads are neither signed nor opened."""

_MAX_SIGNATURES = 16
_MAX_PEM_BYTES = 4096


class VerifyingKey:
    """The public half of a signer; immutable, compared by value, prints its fingerprint."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    @classmethod
    def from_pem(cls, pem: str) -> "VerifyingKey":
        """The key in a ``-----BEGIN PUBLIC KEY-----`` block, exactly as :attr:`pem` spells it: a block that
        stands in evidence leaves no room for unseen changes.

        Raises:
            EvidenceError: anything but an Ed25519 public key.
        """
        key = _load_public(pem.encode("utf-8", "replace"))
        if key is None or cls(key).pem != pem:
            raise EvidenceError("not an Ed25519 public key in PEM")
        return cls(key)

    @classmethod
    def read(cls, path: str | Path) -> "VerifyingKey":
        """The key in a file such as ``sif evidence keygen`` or ``openssl pkey -pubout`` writes.

        Raises:
            KeyFileError: missing, or not an Ed25519 public key in PEM.
        """
        try:
            with Path(path).open("rb") as file:
                key = _load_public(file.read(_MAX_PEM_BYTES + 1))
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror or error}") from None
        if key is None:
            raise KeyFileError(f"{path}: not an Ed25519 public key in PEM")
        return cls(key)

    @property
    def pem(self) -> str:
        """The key as a PEM block with its newline."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the DER SubjectPublicKeyInfo: what people compare aloud."""
        der = self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (64 bytes, else False) is this key's signature of ``message``."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyingKey) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(("VerifyingKey", self.fingerprint))

    def __repr__(self) -> str:
        return f"VerifyingKey({self.fingerprint})"


class SigningKey:
    """An Ed25519 private key; masked when printed, refused by pickle and copy."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> "SigningKey":
        """A fresh key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, path: str | Path) -> "SigningKey":
        """Read what :meth:`write` wrote.

        Raises:
            KeyFileError: missing, readable by group or others, or not an unencrypted Ed25519 key.
        """
        text = read_private(Path(path))
        try:
            key = load_pem_private_key(text.encode("ascii"), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(
                f"{path}: not an unencrypted Ed25519 private key in PEM (sif evidence keygen writes one)"
            )
        return cls(key)

    def write(self, path: str | Path) -> None:
        """Write the key as PKCS #8 PEM to a new file of mode 0600.

        Raises:
            KeyFileError: the file exists (it is never overwritten) or cannot be written.
        """
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(Path(path), pem.decode("ascii"))

    @property
    def public(self) -> VerifyingKey:
        """The public half."""
        return VerifyingKey(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``; deterministic (RFC 8032)."""
        return self._key.sign(message)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is neither pickled nor copied")

    def __repr__(self) -> str:
        return f"SigningKey(**********, public={self.public.fingerprint})"


def sign_envelope(payload: bytes, *, payload_type: str, key: SigningKey) -> dict[str, Any]:
    """``payload`` in a DSSE v1 JSON envelope with one signature; its ``keyid`` is the key's fingerprint.

    Raises:
        EvidenceError: the payload is larger than ``MAX_PAYLOAD_BYTES``.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise EvidenceError(f"payload of {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are signed")
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode("ascii"),
        "payloadType": payload_type,
        "signatures": [{"keyid": key.public.fingerprint, "sig": base64.b64encode(signature).decode("ascii")}],
    }


def open_envelope(envelope: Mapping[str, Any], *, key: VerifyingKey, payload_type: str) -> bytes:
    """The payload of a DSSE envelope, if one of its signatures is by ``key`` over exactly this payload and
    type. The ``keyid`` fields are hints and not believed; members that DSSE does not know are ignored, as it
    asks.

    Raises:
        EvidenceError: no valid signature by ``key``, another payload type, or not an envelope at all.
    """
    if not isinstance(envelope, Mapping):
        raise EvidenceError("envelope: not a JSON object")
    found, signatures = envelope.get("payloadType"), envelope.get("signatures")
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= _MAX_SIGNATURES:
        raise EvidenceError(f"envelope: needs 1 to {_MAX_SIGNATURES} signatures")
    if found != payload_type:
        raise EvidenceError(f"envelope: payload type is not {payload_type}")
    payload = decode_base64(envelope.get("payload"), limit=MAX_PAYLOAD_BYTES, name="envelope: payload")
    message = pre_authentication_encoding(payload_type, payload)
    for row in signatures:
        if not isinstance(row, Mapping):
            raise EvidenceError("envelope: a signature is not a JSON object")
        if key.verifies(decode_base64(row.get("sig"), limit=1024, name="envelope: sig"), message):
            return payload
    raise EvidenceError(f"signature is not by key {key.fingerprint} over this content")


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE v1 signature covers: ``"DSSEv1" SP len(type) SP type SP len(payload) SP payload``."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _load_public(pem: bytes) -> Ed25519PublicKey | None:
    try:
        key = load_pem_public_key(pem) if len(pem) <= _MAX_PEM_BYTES else None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Ed25519PublicKey) else None
