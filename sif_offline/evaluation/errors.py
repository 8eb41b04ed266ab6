"""What can be wrong with a suite or a folder of results."""

from sif_offline.fingerprint.errors import SifError


class EvaluationError(SifError):
    """A suite that makes no sense, or a folder that cannot be used; names the key or the file."""
