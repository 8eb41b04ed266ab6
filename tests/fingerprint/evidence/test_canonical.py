"""One value has one byte string, as RFC 8785 writes it; other spellings are refused."""

import base64
import hashlib
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sif_offline.fingerprint.evidence.canonical import (
    canonical_json,
    decode_base64,
    parse_canonical,
    sha256_hex,
)
from sif_offline.fingerprint.evidence.errors import EvidenceError

# RFC 8785, appendix B: IEEE 754 bits -> how they are written
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555555": "333333333.3333333",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_numbers_of_the_rfc(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number) == text.encode()
    assert parse_canonical(text.encode()) == number


def test_members_are_sorted_by_utf_16_as_in_the_rfc() -> None:
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]  # section 3.2.3
    found = parse_canonical(canonical_json(dict.fromkeys(names)))
    assert list(found) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_strings_are_escaped_as_in_the_rfc() -> None:
    value = {"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/", "literals": [None, True, False]}
    expected = '{"literals":[null,true,false],"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert canonical_json(value) == expected.encode()


@given(values)
def test_what_is_written_is_read(value: Any) -> None:
    data = canonical_json(value)
    assert parse_canonical(data) == value
    assert canonical_json(parse_canonical(data)) == data


def test_order_of_insertion_leaves_no_trace() -> None:
    assert canonical_json({"b": 1, "a": (2, 3)}) == canonical_json({"a": [2, 3], "b": 1.0})


def _cycle() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        2**53,
        -(2**53),
        10**400,
        "\ud800",
        {"\ud800": 1},
        {1: 2},
        {None: 2},
        b"bytes",
        {1, 2},
        object(),
        _cycle(),
    ],
)
def test_what_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(EvidenceError, match=r"^not canonical JSON: .{1,130}$"):
        canonical_json([value])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b"[1]\n",
        b"\xef\xbb\xbf[1]",
        b"[1.0]",
        b"[-0]",
        b"[1e2]",
        b"[NaN]",
        b"[Infinity]",
        b"[9007199254740993]",
        b"[" + b"9" * 5000 + b"]",
        b'["\\u0041"]',
        b'["\\ud800"]',
        b'["\xff"]',
        '["a"]'.encode("utf-16"),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_other_spellings_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="JSON"):
        parse_canonical(data)


def test_sha256() -> None:
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_hex(b"") == hashlib.sha256().hexdigest()


@given(st.binary(max_size=50))
def test_base64_in_either_alphabet(data: bytes) -> None:
    assert decode_base64(base64.b64encode(data).decode(), name="x") == data
    assert decode_base64(base64.urlsafe_b64encode(data).decode(), name="x") == data


@pytest.mark.parametrize(
    "text",
    [None, 3, b"YQ==", "YR==", "YQ", "YQ=", "YQ===", "Y Q==", "YQ==\n", "Y\u00e4==", "=", "a+a_", "!" * 8],
)
def test_base64_has_one_spelling(text: object) -> None:
    with pytest.raises(EvidenceError, match=r"^a field is "):
        decode_base64(text, name="a field")


def test_base64_has_a_limit() -> None:
    assert decode_base64("YWJj", name="x", limit=3) == b"abc"
    with pytest.raises(EvidenceError, match="longer than 3 bytes"):
        decode_base64("YWJjZA==", name="x", limit=3)
