"""One value, one byte string: what is hashed and signed is canonical JSON (RFC 8785)."""

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
