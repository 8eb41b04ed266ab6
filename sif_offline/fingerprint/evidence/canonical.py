"""One value, one byte string: what is hashed and signed is canonical JSON (RFC 8785), and base64 has one
spelling.
"""

import base64
import hashlib
import json
from typing import Any

from sif_offline.fingerprint.evidence.errors import EvidenceError

_LARGEST_INT = 2**53 - 1
"""Above it an IEEE double cannot tell an integer from its neighbour (RFC 7493, section 2.2)."""


def canonical_json(value: Any) -> bytes:
    """``value`` as RFC 8785 JSON: UTF-8, no spaces, members sorted by UTF-16 code unit, numbers as ECMAScript
    writes them (so that 1 and 1.0 are the same bytes).

    Args:
        value: None, bool, int within +-(2**53 - 1), finite float, str, list, tuple, dict with str names.

    Raises:
        EvidenceError: anything else: NaN, infinity, a larger integer, a lone surrogate, a foreign type, a
            value that contains itself.
    """
    import rfc8785

    try:
        return rfc8785.dumps(value)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"not canonical JSON: {_short(error)}") from None


def parse_canonical(data: bytes) -> Any:
    """The value that ``canonical_json`` made ``data`` of.

    Bytes that are not the canonical form of their own value are refused, which leaves no room for duplicate
    names, spaces or second spellings that another reader would understand differently. An integer-valued
    float from 2**53 up to 1e21, which the canonical form writes as digits alone, comes back as a float.

    Raises:
        EvidenceError: ``data`` is not canonical JSON.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"not JSON: {_short(error)}") from None
    if canonical_json(value) != data:
        raise EvidenceError("not canonical JSON: the bytes differ from the RFC 8785 form of their value")
    return value


def decode_base64(text: object, *, name: str, limit: int = 64 * 2**20) -> bytes:
    """The bytes behind ``text``, base64 (standard or URL-safe, padded) in the one spelling that encodes them.

    The standard library forgives stray bits in the last character, so that a changed file could decode to the
    same bytes.

    Args:
        text: as it stood in somebody's JSON; need not be a string.
        name: what it is called in the error.
        limit: largest number of bytes.

    Raises:
        EvidenceError: not a string, too long, or not such base64.
    """
    if not isinstance(text, str):
        raise EvidenceError(f"{name} is missing or not a string")
    if len(text) > (limit + 2) // 3 * 4:
        raise EvidenceError(f"{name} is longer than {limit} bytes")
    try:
        encoded = text.encode("ascii")
        decoded = base64.b64decode(encoded.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except ValueError:
        raise EvidenceError(f"{name} is not base64") from None
    if encoded not in (base64.b64encode(decoded), base64.urlsafe_b64encode(decoded)):
        raise EvidenceError(f"{name} is not base64 in its one spelling")
    return decoded


def sha256_hex(data: bytes) -> str:
    """Lower-case hex sha256 of ``data``, 64 digits."""
    return hashlib.sha256(data).hexdigest()


def _number(digits: str) -> int | float:
    # 20 characters hold every safe integer; longer ones would run into Python's limit on digits
    if len(digits) <= 20 and abs(int(digits)) <= _LARGEST_INT:
        return int(digits)
    return float(digits)


def _short(error: BaseException) -> str:
    """The message without a quoted value that may be as long as the attacker likes."""
    text = str(error)
    return text if len(text) <= 120 else f"{text[:120]}..."
