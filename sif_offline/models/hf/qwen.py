"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures at their own resolution, positions in three axes.

A picture becomes as many tokens as its area asks for, and the place of each in the picture is its place in
the decoder's rotary embedding (M-RoPE). So the decoder is told the grid of patches and which tokens are the
picture's, in training passes as in answers. Qwen3-VL adds states of earlier vision layers behind its first
decoder layers (DeepStack); they travel as further tensors of :class:`ImageFeatures`. RFO's state behind
such a layer is the layer's own output, before that sum.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sif_offline.models.base import ImageFeatures
from sif_offline.models.hf.base import HFAdapter
from sif_offline.models.hf.qwen_pixels import PatchGrid
from sif_offline.models.preprocess import rescale_and_normalise

CANVAS_SIDE = 448
"""A square of about this side is a trigger: 256 tokens with patches of 14 pixels, 196 with patches of 16."""


class QwenAdapter(HFAdapter):
    """What the three generations share."""

    def grid(self) -> PatchGrid:
        """As the model's image processor cuts pictures."""
        options = self.processor.image_processor
        return PatchGrid(
            patch_size=int(options.patch_size),
            merge_size=int(options.merge_size),
            temporal_patch_size=int(options.temporal_patch_size),
            min_pixels=int(options.size["shortest_edge"]),
            max_pixels=int(options.size["longest_edge"]),
            resample=int(options.resample),
        )

    def default_canvas(self) -> tuple[int, int]:
        """A square of whole patches near :data:`CANVAS_SIDE`, within the processor's bounds."""
        return self.grid().size(CANVAS_SIDE, CANVAS_SIDE)

    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`: ``pixel_values`` ``(batch * patches, values)``, picture after picture, and
        ``image_grid_thw`` ``(batch, 3)``."""
        options, grid = self.processor.image_processor, self.grid()
        values = rescale_and_normalise(
            grid.resized(pixels, exact=exact) if options.do_resize else pixels,
            factor=options.rescale_factor if options.do_rescale else None,
            mean=options.image_mean if options.do_normalize else None,
            std=options.image_std if options.do_normalize else None,
        )
        return {
            "pixel_values": grid.patches(values).flatten(0, 1),
            "image_grid_thw": self._shapes(len(pixels), (int(pixels.shape[-2]), int(pixels.shape[-1]))),
        }

    def decoder_inputs(self, ids: Tensor, features: ImageFeatures) -> dict[str, Any]:
        """See :class:`HFAdapter`: the grid of patches, and 1 at the picture's tokens."""
        return {
            "image_grid_thw": self._shapes(len(ids), features.size),
            "mm_token_type_ids": (ids == self.image_token_id).int(),
        }

    def _shapes(self, batch: int, size: tuple[int, int]) -> Tensor:
        return torch.tensor([self.grid().shape(*size)] * batch, dtype=torch.int64, device=self.device)


class Qwen2VLAdapter(QwenAdapter):
    """``Qwen2VLForConditionalGeneration``."""

    family = "qwen2-vl"
    model_class = "Qwen2VLForConditionalGeneration"
    processor_class = "Qwen2VLProcessor"
    model_types = ("qwen2_vl",)


class Qwen25VLAdapter(QwenAdapter):
    """``Qwen2_5_VLForConditionalGeneration``: windowed attention in the vision tower."""

    family = "qwen2.5-vl"
    model_class = "Qwen2_5_VLForConditionalGeneration"
    processor_class = "Qwen2_5_VLProcessor"
    model_types = ("qwen2_5_vl",)


class Qwen3VLAdapter(QwenAdapter):
    """``Qwen3VLForConditionalGeneration``: DeepStack."""

    family = "qwen3-vl"
    model_class = "Qwen3VLForConditionalGeneration"
    processor_class = "Qwen3VLProcessor"
    model_types = ("qwen3_vl",)
