"""Timestamps of a third party (RFC 3161): bytes existed at a time, says an authority that does not know them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Timestamp:
    """What a timestamp authority signed.

    Attributes:
        time: when, UTC.
        authority: subject of the signing certificate (RFC 4514).
        serial: the authority's number for this timestamp.
        policy: OID of the policy it was made under.
        trusted: whether the signing certificate chains to a root that the caller trusts; False says only that
            *somebody* signed.
    """

    time: datetime
    authority: str
    serial: int
    policy: str
    trusted: bool


def request_timestamp(data: bytes, *, url: str, timeout_s: float = 30) -> bytes:
    raise NotImplementedError


def check_timestamp(token: bytes, *, data: bytes, roots: Sequence[bytes] = ()) -> Timestamp:
    raise NotImplementedError
