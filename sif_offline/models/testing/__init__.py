"""For whoever adds a model family: tiny models of the real classes, and the contract of an adapter."""

from sif_offline.models.testing.tiny import TINY, tiny_adapter

__all__ = ["TINY", "tiny_adapter"]
