"""Where two JSON values differ: the figures as stated, and as they were recomputed."""

import math
from typing import Any

TOLERANCE = 1e-9
"""Relative difference allowed between a stated and a recomputed figure: another machine's libm, no more."""


def differences(stated: Any, found: Any, where: str = "") -> list[tuple[str, Any, Any]]:
    """Every place at which two JSON values differ; floats may differ by ``TOLERANCE``."""
    if isinstance(stated, dict) and isinstance(found, dict):
        return [
            difference
            for key in sorted(stated.keys() | found.keys())
            for difference in differences(stated.get(key), found.get(key), f"{where}.{key}".lstrip("."))
        ]
    if isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        return [
            difference
            for place, (said, computed) in enumerate(zip(stated, found, strict=True))
            for difference in differences(said, computed, f"{where}[{place}]")
        ]
    numeric = (
        not isinstance(stated, bool) and isinstance(stated, float | int) and isinstance(found, float | int)
    )
    if numeric and (isinstance(stated, float) or isinstance(found, float)):
        same = _close(stated, found)
    else:
        same = type(stated) is type(found) and stated == found
    return [] if same else [(where, stated, found)]


def _close(stated: float, found: float) -> bool:
    try:
        return math.isclose(stated, found, rel_tol=TOLERANCE, abs_tol=1e-300)
    except OverflowError:  # an integer beyond every float
        return False


def shortened(value: Any) -> str:
    """``repr(value)``, 40 characters at most."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
