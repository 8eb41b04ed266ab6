"""Rival fingerprints behind one interface: what SIF is compared with, and what a gateway should notice."""

from sif_offline.baselines.asking import Sent, ask, deployed, write_deployed
from sif_offline.baselines.base import BaselineError, FingerprintMethod, Forged, Job, Score, Target
from sif_offline.baselines.pack import BaselinePack, BaselineRow, read_baseline
from sif_offline.baselines.pipeline import forge_baseline
from sif_offline.baselines.registry import make_method, method_names
from sif_offline.baselines.settings import AttackSettings

__all__ = [
    "AttackSettings",
    "BaselineError",
    "BaselinePack",
    "BaselineRow",
    "FingerprintMethod",
    "Forged",
    "Job",
    "Score",
    "Sent",
    "Target",
    "ask",
    "deployed",
    "forge_baseline",
    "make_method",
    "method_names",
    "read_baseline",
    "write_deployed",
]
