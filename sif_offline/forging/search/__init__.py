"""How a gradient moves the picture: smoothing, update rules and step lengths."""

from sif_offline.forging.search.rules import AdamTanh, Momentum, Rule, make_rule, normalised
from sif_offline.forging.search.schedules import step_length
from sif_offline.forging.search.smoothing import smoothed

__all__ = ["AdamTanh", "Momentum", "Rule", "make_rule", "normalised", "smoothed", "step_length"]
