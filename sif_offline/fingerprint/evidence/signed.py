"""A signed statement in a file: DSSE envelope, the signer's public key, and perhaps a timestamp."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

from pydantic import ValidationError

from sif_offline.fingerprint.evidence.canonical import canonical_json, decode_base64
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.signing import (
    MAX_PAYLOAD_BYTES,
    SigningKey,
    VerifyingKey,
    open_envelope,
    sign_envelope,
)
from sif_offline.fingerprint.evidence.statement import PAYLOAD_TYPE, Statement, read_statement
from sif_offline.fingerprint.evidence.timestamping import MAX_TOKEN_BYTES, Timestamp, check_timestamp
from sif_offline.fingerprint.schema import FrozenRow, first_problem

Stamp = Callable[[bytes], bytes]
"""Asks a timestamp authority: data -> RFC 3161 response in DER."""


class Signed(FrozenRow):
    """An in-toto Statement under a signature.

    Attributes:
        envelope: DSSE envelope around the statement.
        public_key: the signer's, PEM. It says who signed only to those who know the key from elsewhere.
        timestamp: RFC 3161 response over :attr:`stamped`, base64; None where no authority was asked.
    """

    schema_version: Literal[1] = 1
    envelope: dict[str, Any]
    public_key: str
    timestamp: str | None = None

    @classmethod
    def sign(cls, statement: bytes, *, key: SigningKey, stamp: Stamp | None, **fields: Any) -> Self:
        """Sign ``statement`` and have the signature stamped.

        Args:
            statement: from ``make_statement``.
            key: the signer's.
            stamp: the authority; None for no timestamp.
            fields: whatever a subclass adds.
        """
        envelope = sign_envelope(statement, payload_type=PAYLOAD_TYPE, key=key)
        signed = cls(envelope=envelope, public_key=key.public.pem, **fields)
        if stamp is None:
            return signed
        token = base64.b64encode(stamp(signed.stamped)).decode("ascii")
        return signed.model_copy(update={"timestamp": token})

    @classmethod
    def parse(cls, data: bytes, *, name: str) -> Self:
        """Read a file. Raises EvidenceError that calls it ``name``."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise EvidenceError(f"{name}: {first_problem(error)}") from None

    def to_json(self) -> bytes:
        """The file's content."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @property
    def signer(self) -> VerifyingKey:
        """The key that the file names as its signer's. Raises EvidenceError where it is none.

        One key has one spelling here, and the envelope's own hint must name it: no byte is left to chance.
        """
        key = VerifyingKey.from_pem(self.public_key)
        signatures = self.envelope.get("signatures")
        hints = [row.get("keyid") for row in signatures] if isinstance(signatures, list) else []
        if key.pem != self.public_key or hints != [key.fingerprint]:
            raise EvidenceError("signature: the envelope and the public key beside it do not belong together")
        return key

    @property
    def stamped(self) -> bytes:
        """The bytes that the timestamp is over: the envelope, signature and all."""
        return canonical_json(self.envelope)

    def statement(self, predicate_type: str) -> Statement:
        """What was signed, once the signature by :attr:`signer` has been checked. Raises EvidenceError."""
        payload = open_envelope(self.envelope, key=self.signer, payload_type=PAYLOAD_TYPE)
        return read_statement(payload, predicate_type=predicate_type)

    def unchecked_statement(self, predicate_type: str) -> Statement:
        """What the envelope says without regard to its signature: to name what was changed, no more."""
        payload = decode_base64(self.envelope.get("payload"), name="payload", limit=MAX_PAYLOAD_BYTES)
        return read_statement(payload, predicate_type=predicate_type)

    def time(self, *, roots: Sequence[bytes] = ()) -> Timestamp | None:
        """The timestamp, checked offline (``roots``: trusted PEM certificates); None where there is none.

        Raises:
            EvidenceError: it does not fit the envelope, or its authority is not under ``roots``.
        """
        if self.timestamp is None:
            return None
        token = decode_base64(self.timestamp, name="timestamp", limit=MAX_TOKEN_BYTES)
        return check_timestamp(token, data=self.stamped, roots=roots)
