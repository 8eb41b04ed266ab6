"""What a pirate does to a stolen model. A new suspect is one file here and one row in ``SUSPECTS``."""

from sif_offline.suspects.base import Alteration, Stolen, SuspectError
from sif_offline.suspects.registry import SUSPECTS, make_suspect

__all__ = ["SUSPECTS", "Alteration", "Stolen", "SuspectError", "make_suspect"]
