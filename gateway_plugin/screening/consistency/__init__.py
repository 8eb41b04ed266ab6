"""Does the answer survive a re-encoded picture? One that a picture was optimised to force often does not.

The same model is asked the same question again, with the pictures re-encoded or blurred so slightly that a
person sees no difference. What honest pictures show is still there; an adversarial pattern is damaged, and
with it the forced answer.
"""

from gateway_plugin.screening.consistency.agreement import instability
from gateway_plugin.screening.consistency.check import (
    DEFAULT_REENCODINGS,
    ConsistencyThresholds,
    ImageConsistencyCheck,
)

__all__ = [
    "DEFAULT_REENCODINGS",
    "ConsistencyThresholds",
    "ImageConsistencyCheck",
    "instability",
]
