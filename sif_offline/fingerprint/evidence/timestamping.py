"""Timestamps of a third party (RFC 3161): these bytes existed at this time, says one who never saw them.

Only the sha256 of the bytes travels. A token is checked offline, and as of the time inside it: certificates
must have been valid then, not now, so that evidence outlives the authority's certificate. Not checked:
revocation, which no token records.
"""

import hashlib
import hmac
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sif_offline.fingerprint.evidence.cms import check_signature, sort_certificates
from sif_offline.fingerprint.evidence.errors import EvidenceError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

MAX_TOKEN_BYTES = 2**20
"""Larger answers and tokens are refused; real ones have 1 to 10 kB."""

_GRANTED = 0
_IMPRINTS = {
    "2.16.840.1.101.3.4.2.1": hashlib.sha256,
    "2.16.840.1.101.3.4.2.2": hashlib.sha384,
    "2.16.840.1.101.3.4.2.3": hashlib.sha512,
}


@dataclass(frozen=True, kw_only=True)
class Timestamp:
    """What a timestamp authority signed.

    Attributes:
        time: when, UTC; fractions of a second are cut off.
        authority: subject of the signing certificate (RFC 4514), control characters replaced by "?", cut
            after 200 characters.
        serial: the authority's number for this timestamp.
        policy: OID of the policy it was made under.
        trusted: whether the signing certificate chains to a root that the caller trusts. False says that
            *somebody* signed: anyone can make a certificate of any name and sign any time with it.
    """

    time: datetime
    authority: str
    serial: int
    policy: str
    trusted: bool


def request_timestamp(data: bytes, *, url: str, timeout_s: float = 30) -> bytes:
    """Ask the authority at ``url`` (http or https) to timestamp ``data``.

    The answer is checked before it is returned: status, nonce, imprint and signature, not the chain.

    Args:
        data: any bytes; only their sha256 is sent.
        url: of the authority; a user and password in it are used, and left out of messages.
        timeout_s: for the whole exchange, in seconds.

    Returns:
        The DER TimeStampResp with the authority's certificate, for :func:`check_timestamp`.

    Raises:
        EvidenceError: no usable answer; one line that names the URL.
    """
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    request = TimestampRequestBuilder(data, HashAlgorithm.SHA256, nonce=True, cert_req=True).build()
    token, name = _post(url, request.as_bytes(), timeout_s=timeout_s)
    try:
        if _parse(token).tst_info.nonce != request.nonce:
            raise EvidenceError("timestamp: the answer is to another request (nonce)")
        check_timestamp(token, data=data)
    except EvidenceError as error:
        raise EvidenceError(f"{name}: {str(error).removeprefix('timestamp: ')}") from None
    return token


def check_timestamp(token: bytes, *, data: bytes, roots: Sequence[bytes] = ()) -> Timestamp:
    """Check a DER TimeStampResp over ``data`` without any network.

    Always: the imprint is the hash of ``data`` (SHA-256, -384 or -512); the signature holds under the
    certificate in the token, and that is the very certificate the authority named in what it signed; it is
    for timestamping alone and was valid at the time claimed. With ``roots``: it also chains to one of them,
    as of that time.

    Args:
        token: as :func:`request_timestamp` returned it.
        data: what it is said to be of.
        roots: trusted CA certificates, PEM, one or more in each.

    Raises:
        EvidenceError: any of this does not hold.
    """
    response = _parse(token)
    info = response.tst_info
    imprint = _IMPRINTS.get(info.message_imprint.hash_algorithm.dotted_string)
    if imprint is None:
        raise EvidenceError("timestamp: the imprint is not SHA-2")
    if not hmac.compare_digest(info.message_imprint.message, imprint(data).digest()):
        raise EvidenceError("timestamp: it is of other data")
    certificate = _signing_certificate(response, at=info.gen_time)
    check_signature(response.time_stamp_token(), certificate)
    if roots:
        _check_chain(response, data=data, roots=roots)
    return Timestamp(
        time=info.gen_time.astimezone(UTC),
        authority=_printable(certificate.subject.rfc4514_string()),
        serial=info.serial_number,
        policy=info.policy.dotted_string,
        trusted=bool(roots),
    )


def _post(url: str, query: bytes, *, timeout_s: float) -> tuple[bytes, str]:
    """The body of the answer, and the URL without a password, for messages."""
    import httpx

    try:
        address = httpx.URL(url)
        name = str(address.copy_with(userinfo=b""))
    except (httpx.InvalidURL, TypeError) as error:
        raise EvidenceError(f"{url}: not a URL ({error})") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise EvidenceError(f"{name}: not an http or https URL")
    headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
    headers["Accept-Encoding"] = "identity"  # a compressed answer could unpack to anything
    deadline, body = time.monotonic() + timeout_s, bytearray()
    try:
        with httpx.stream("POST", address, content=query, headers=headers, timeout=timeout_s) as answer:
            if answer.status_code != 200:
                raise EvidenceError(f"{name}: the timestamp authority answered HTTP {answer.status_code}")
            for piece in answer.iter_raw():
                body += piece
                if len(body) > MAX_TOKEN_BYTES:
                    raise EvidenceError(f"{name}: answered more than {MAX_TOKEN_BYTES} bytes")
                if time.monotonic() > deadline:  # httpx limits each read, not their sum
                    raise EvidenceError(f"{name}: no whole answer within {timeout_s:g} s")
    except httpx.TimeoutException:
        raise EvidenceError(f"{name}: no answer within {timeout_s:g} s") from None
    except httpx.HTTPError as error:
        raise EvidenceError(f"{name}: {error}") from None
    return bytes(body), name


def _parse(token: bytes) -> Any:
    """The TimeStampResp, granted; a refusal or anything else is an EvidenceError."""
    from rfc3161_client import decode_timestamp_response

    if len(token) > MAX_TOKEN_BYTES:
        raise EvidenceError("timestamp: too long")
    with suppress(ValueError, IndexError):  # a refusal has no token; the rest is refused a line below
        token = sort_certificates(token)
    try:
        response = decode_timestamp_response(token)
        status, reasons = response.status, list(response.status_string)
    except ValueError:
        raise EvidenceError("timestamp: not an RFC 3161 answer") from None
    if status != _GRANTED:  # 1, granted with modifications, is not what was asked for
        raise EvidenceError(f"timestamp: refused with status {status} {_printable(' '.join(reasons))}")
    try:
        response.tst_info, response.signed_data  # noqa: B018  (parsed on access)
    except ValueError:
        raise EvidenceError("timestamp: not an RFC 3161 answer with a token") from None
    return response


def _printable(text: str) -> str:
    """Text by a stranger that will stand in a terminal: no control characters, no novels."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:200])


def _signing_certificate(response: Any, *, at: datetime) -> "Certificate":
    """The certificate in the token that the signer names."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        (signer,) = response.signed_data.signer_infos
        found = [x509.load_der_x509_certificate(der) for der in response.signed_data.certificates]
        (certificate,) = [
            one for one in found if one.issuer == signer.issuer and one.serial_number == signer.serial_number
        ]
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        only = list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    except Exception:  # x509 raises a dozen kinds over hostile bytes, without a common parent
        raise EvidenceError("timestamp: no usable signing certificate inside") from None
    if not usage.critical or not only:  # RFC 3161, section 2.3
        raise EvidenceError("timestamp: the signing certificate is not for timestamping alone")
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise EvidenceError("timestamp: the signing certificate was not valid at that time")
    return certificate


def _check_chain(response: Any, *, data: bytes, roots: Sequence[bytes]) -> None:
    from cryptography import x509
    from rfc3161_client import VerificationError, VerifierBuilder

    try:
        anchors = {one for pem in roots for one in x509.load_pem_x509_certificates(pem)}
    except ValueError:
        raise EvidenceError("timestamp: a root is not a certificate in PEM") from None
    try:
        VerifierBuilder(roots=list(anchors)).build().verify_message(response, data)
    except (VerificationError, ValueError):
        raise EvidenceError("timestamp: the signing certificate does not chain to a trusted root") from None
