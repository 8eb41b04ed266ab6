"""One adapter for each family of vision-language models, behind one small interface."""

from sif_offline.models.base import DecodingRules, ModelError, VLMAdapter
from sif_offline.models.registry import families, load_adapter

__all__ = ["DecodingRules", "ModelError", "VLMAdapter", "families", "load_adapter"]
