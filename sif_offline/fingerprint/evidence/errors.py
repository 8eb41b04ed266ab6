"""The one error of this folder."""

from sif_offline.fingerprint.errors import SifError


class EvidenceError(SifError):
    """Evidence that cannot be made, or that does not hold: altered, unsigned, untimed, malformed."""
