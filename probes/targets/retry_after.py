"""What a Retry-After header asks for."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_to_wait(value: str) -> float | None:
    """Seconds that a Retry-After header asks for: a number of them, or a date (RFC 9110, section 10.2.3).

    ``None`` where it is neither. A date is held against this machine's clock; one in the past is 0.
    """
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        # a date that names no zone is in UTC, as RFC 9110 has it
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        seconds = (at - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else max(0.0, seconds)
