"""One adapter for each family of vision-language models, behind one small interface."""

from sif_offline.models.base import DecodingRules, ImageFeatures, ModelError, VLMAdapter
from sif_offline.models.registry import families, load_adapter

__all__ = ["DecodingRules", "ImageFeatures", "ModelError", "VLMAdapter", "families", "load_adapter"]
