"""Rounds over a target: what to ask, asking it once, scoring what came back."""

from probes.rounds.runner import RoundRunner
from probes.rounds.settings import RoundSettings
from probes.rounds.sif import SifTrials, sif_runner
from probes.rounds.summary import RoundSummary

__all__ = ["RoundRunner", "RoundSettings", "RoundSummary", "SifTrials", "sif_runner"]
