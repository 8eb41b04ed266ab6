"""``sif score``: answers that somebody already has, scored and coloured."""

from sif_offline.cli.score.command import score

__all__ = ["score"]
