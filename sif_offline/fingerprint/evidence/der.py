"""DER, read strictly: as much ASN.1 as a timestamp token needs.

Everything raises ``ValueError`` or ``IndexError`` on bytes that are something else.
"""

from typing import NamedTuple

INTEGER, OCTETS, NULL, OID, SEQUENCE, SET = 0x02, 0x04, 0x05, 0x06, 0x30, 0x31
TAG_0 = 0xA0


class Element(NamedTuple):
    """One DER element: its tag byte, its content, and all of its bytes."""

    tag: int
    content: bytes
    raw: bytes


def parts(element: Element) -> list[Element]:
    """The elements of a SEQUENCE."""
    if element.tag != SEQUENCE:
        raise ValueError("not a sequence")
    return elements(element.content)


def one(data: bytes) -> Element:
    """The one element that ``data`` is."""
    (found,) = elements(data)
    return found


def elements(data: bytes) -> list[Element]:
    """The DER elements that ``data`` is made of, without rest."""
    found, at = [], 0
    while at < len(data):
        start, length = at, data[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4:
                raise ValueError("indefinite or absurd length")
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + length > len(data):
            raise ValueError("short data")
        found.append(Element(data[start], data[at : at + length], data[start : at + length]))
        at += length
    return found


def encode(tag: int, content: bytes) -> bytes:
    """The element of this tag; for contents below 128 bytes."""
    if len(content) > 127:
        raise ValueError("too long for a short length")
    return bytes([tag, len(content)]) + content
