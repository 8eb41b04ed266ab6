"""Gemma 3: one SigLIP view squeezed to a square. Pan-and-scan is off, as it is by default."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sif_offline.models.base import ImageFeatures
from sif_offline.models.hf.base import Encoded, HFAdapter
from sif_offline.models.hf.llava import height_width, plain_view


class Gemma3Adapter(HFAdapter):
    """``Gemma3ForConditionalGeneration``. The picture's tokens attend to one another in both directions."""

    family = "gemma3"
    model_class = "Gemma3ForConditionalGeneration"
    processor_class = "Gemma3Processor"
    model_types = ("gemma3",)

    def default_canvas(self) -> tuple[int, int]:
        """The square that every picture is squeezed to."""
        return height_width(self.processor.image_processor.size)

    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`: ``pixel_values`` ``(batch, 3, side, side)``."""
        return {"pixel_values": plain_view(self.processor.image_processor, pixels, exact=exact)}

    def decoder_inputs(self, ids: Tensor, features: ImageFeatures) -> dict[str, Any]:
        """Where the picture's tokens stand."""
        return {"token_type_ids": (ids == self.image_token_id).long()}

    def encoded(self, features: ImageFeatures) -> Encoded:
        """The embeddings as one tensor: Gemma's forward joins no list."""
        return Encoded(features.tensors[0])
