"""What a pirate does to a stolen model. A new suspect is one file here and one row in ``SUSPECTS``."""

from sif_offline.suspects.base import Alteration, Stolen, SuspectError
from sif_offline.suspects.registry import SUSPECTS, make_suspect
from sif_offline.suspects.row import SuspectRow, read_rows
from sif_offline.suspects.serving import Serving

__all__ = [
    "SUSPECTS",
    "Alteration",
    "Serving",
    "Stolen",
    "SuspectError",
    "SuspectRow",
    "make_suspect",
    "read_rows",
]
