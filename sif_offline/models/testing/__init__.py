"""For whoever adds a model family: tiny models of the real classes, and the contract that an adapter keeps."""

from sif_offline.models.testing.tiny import TINY, tiny_adapter

__all__ = ["TINY", "tiny_adapter"]
