"""The signed part of a timestamp token (CMS SignedData, RFC 5652), checked against the certificate inside it.

``rfc3161_client`` verifies through OpenSSL, which leaves three gaps for evidence that strangers read: it
checks nothing without a trusted root; it ignores the version numbers and the name of the signature algorithm,
so that those bytes can be changed unseen; and it does not compare the certificate with the hash that the
authority signed (ESSCertID, RFC 5816), which alone binds the certificate where no root is at hand. This
module closes them. It believes the certificate; whether anybody should is a question for the chain.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sif_offline.fingerprint.evidence.der import (
    NULL,
    OCTETS,
    OID,
    SEQUENCE,
    SET,
    TAG_0,
    Element,
    elements,
    encode,
    one,
    parts,
)
from sif_offline.fingerprint.evidence.errors import EvidenceError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_SIGNING_CERTIFICATE = bytes.fromhex("2a864886f70d010910020c")
_SIGNING_CERTIFICATE_V2 = bytes.fromhex("2a864886f70d010910022f")

_DIGESTS = {
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
# signature algorithm -> (kind of key, digest, or None where the signer's digest algorithm says it)
_SIGNATURES: dict[bytes, tuple[str, str | None]] = {
    bytes.fromhex("2a864886f70d010101"): ("rsa", None),
    bytes.fromhex("2a864886f70d01010b"): ("rsa", "sha256"),
    bytes.fromhex("2a864886f70d01010c"): ("rsa", "sha384"),
    bytes.fromhex("2a864886f70d01010d"): ("rsa", "sha512"),
    bytes.fromhex("2a8648ce3d040302"): ("ecdsa", "sha256"),
    bytes.fromhex("2a8648ce3d040303"): ("ecdsa", "sha384"),
    bytes.fromhex("2a8648ce3d040304"): ("ecdsa", "sha512"),
}


def check_signature(token: bytes, certificate: "Certificate") -> None:
    """Raise ``EvidenceError`` unless ``token`` (DER ContentInfo) is one SignedData over a TSTInfo with one
    signer, whose signature holds under ``certificate`` and covers the hash of exactly that certificate.

    Digests are SHA-256, -384 or -512; keys are RSA (PKCS #1 v1.5) or ECDSA, as ``rfc3161_client`` handles.
    """
    try:
        _check(token, certificate)
    except (ValueError, IndexError):
        raise EvidenceError("timestamp: the signed data is malformed") from None


def sort_certificates(response: bytes) -> bytes:
    """A DER TimeStampResp with the certificates in its token in DER order.

    A SET OF is sorted in DER, but widespread authorities (whatever runs on ``openssl ts``) send the chain in
    the order of the chain, which ``rfc3161_client`` refuses to read. No signature covers that order.

    Raises:
        ValueError, IndexError: not a TimeStampResp with a token.
    """
    _status, token = parts(one(response))
    _kind, wrapped = parts(token)
    found = parts(one(wrapped.content))[3]
    if found.tag != TAG_0:
        return response  # no certificates
    ordered = b"".join(sorted(element.raw for element in elements(found.content)))
    return response.replace(found.content, ordered, 1)


def _check(token: bytes, certificate: "Certificate") -> None:
    content, digest_names, signer = _signed_data(token)
    version, identity, digest_row, signed, algorithm_row, signature, *_unsigned = parts(signer)
    digest = _DIGESTS.get(_algorithm(digest_row))
    _require(digest is not None and digest in digest_names, "a digest algorithm that is not SHA-2")
    _require(version.raw == b"\x02\x01\x01", "a signer of another version")
    _require(identity.content == _name_and_number(certificate), "a signer other than the certificate inside")
    _require(signed.tag == TAG_0 and signature.tag == OCTETS, "a signer without signed attributes")
    attributes = _attributes(signed)
    _require(attributes.get(_CONTENT_TYPE) == encode(OID, _TST_INFO), "a signature of other content")
    found = _hash(str(digest), content)
    _require(attributes.get(_MESSAGE_DIGEST) == encode(OCTETS, found), "content that is not what was signed")
    _check_certificate_hash(attributes, certificate)
    # what is signed is the DER of the attributes as a SET OF (RFC 5652, section 5.4)
    kind, named = _SIGNATURES.get(_algorithm(algorithm_row), ("", None))
    _require(named in (None, digest), "a signature algorithm of another digest")
    message = bytes([SET]) + signed.raw[1:]
    _require(
        _verifies(certificate, kind, str(digest), signature.content, message),
        "the signature does not hold under the certificate inside",
    )


def _signed_data(token: bytes) -> tuple[bytes, set[str | None], Element]:
    """Encapsulated content, the digest algorithms announced for it, the one signer."""
    kind, wrapped = parts(one(token))
    _require(kind.raw == encode(OID, _SIGNED_DATA) and wrapped.tag == TAG_0, "not signed data")
    version, digests, content, *rest = parts(one(wrapped.content))
    _require(version.raw == b"\x02\x01\x03" and digests.tag == SET, "signed data of another version")
    kind, wrapped = parts(content)
    _require(kind.raw == encode(OID, _TST_INFO) and wrapped.tag == TAG_0, "signed data over no timestamp")
    octets, signers = one(wrapped.content), rest[-1]
    _require(octets.tag == OCTETS and signers.tag == SET, "signed data without content or signer")
    names = {_DIGESTS.get(_algorithm(row)) for row in elements(digests.content)}
    return octets.content, names, one(signers.content)


def _name_and_number(certificate: "Certificate") -> bytes:
    """DER of the issuer and of the serial number, byte for byte as the certificate has them."""
    _version, number, _algorithm_row, issuer, *_rest = parts(one(certificate.tbs_certificate_bytes))
    return issuer.raw + number.raw


def _attributes(signed: Element) -> dict[bytes, bytes]:
    """Object identifier -> DER of the one value; no attribute may come twice (RFC 5652, section 5.3)."""
    found: dict[bytes, bytes] = {}
    for row in elements(signed.content):
        name, values = parts(row)
        _require(name.tag == OID and values.tag == SET and name.content not in found, "repeated attributes")
        found[name.content] = values.content
    return found


def _check_certificate_hash(attributes: dict[bytes, bytes], certificate: "Certificate") -> None:
    """The first ESSCertID is the signer's: sha1 in RFC 2634, any digest (default SHA-256) in RFC 5035."""
    second = _SIGNING_CERTIFICATE_V2 in attributes
    value = attributes.get(_SIGNING_CERTIFICATE_V2 if second else _SIGNING_CERTIFICATE)
    _require(value is not None, "no hash of the signing certificate")
    first = parts(elements(parts(one(value or b""))[0].content)[0])
    digest: str | None = "sha256" if second else "sha1"
    if second and first[0].tag == SEQUENCE:
        digest = _DIGESTS.get(_algorithm(first.pop(0)))
    from cryptography.hazmat.primitives.serialization import Encoding

    _require(digest is not None and first[0].tag == OCTETS, "an unknown hash of the signing certificate")
    expected = _hash(str(digest), certificate.public_bytes(Encoding.DER))
    _require(hmac.compare_digest(first[0].content, expected), "a certificate other than the one that signed")


def _verifies(certificate: "Certificate", kind: str, digest: str, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    functions: dict[str, hashes.HashAlgorithm] = {
        "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(),
        "sha512": hashes.SHA512(),
    }
    try:
        key = certificate.public_key()
        if kind == "rsa" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), functions[digest])
        elif kind == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(functions[digest]))
        else:
            raise EvidenceError("timestamp: a signature algorithm that is neither RSA (v1.5) nor ECDSA")
    except InvalidSignature:
        return False
    except UnsupportedAlgorithm:
        raise EvidenceError("timestamp: an unknown kind of signing key") from None
    return True


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise EvidenceError(f"timestamp: {problem}")


def _algorithm(row: Element) -> bytes:
    """The object identifier of an AlgorithmIdentifier whose parameters are absent or NULL."""
    name, *parameters = parts(row)
    if name.tag != OID or [p.raw for p in parameters] not in ([], [bytes([NULL, 0])]):
        raise ValueError("not a plain algorithm")
    return name.content


def _hash(digest: str, data: bytes) -> bytes:
    functions: dict[str, Callable[[bytes], Any]] = {
        "sha1": lambda found: hashlib.sha1(found, usedforsecurity=False),
        "sha256": hashlib.sha256,
        "sha384": hashlib.sha384,
        "sha512": hashlib.sha512,
    }
    return bytes(functions[digest](data).digest())
