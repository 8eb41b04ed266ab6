"""Idefics3 and SmolVLM: square tiles, each announced by its row and column, and the whole picture last."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sif_offline.models.hf.base import HFAdapter
from sif_offline.models.hf.idefics_pixels import Splitting
from sif_offline.models.preprocess import rescale_and_normalise


class Idefics3Adapter(HFAdapter):
    """``Idefics3ForConditionalGeneration``; the first SmolVLM models are of this class too."""

    family = "idefics3"
    model_class = "Idefics3ForConditionalGeneration"
    processor_class = "Idefics3Processor"
    model_types = ("idefics3",)

    def splitting(self) -> Splitting:
        """As the model's image processor splits pictures."""
        options = self.processor.image_processor
        return Splitting(
            longest_edge=int(options.size["longest_edge"]),
            tile=int(options.max_image_size["longest_edge"]),
            split=bool(options.do_image_splitting),
            resample=int(options.resample),
        )

    def default_canvas(self) -> tuple[int, int]:
        """A square of the longest edge: the only square that is not resized first.

        It costs the most tokens: 17 tiles for Idefics3-8B. Any picture of that longest edge keeps its pixels
        if its other side is a whole number of tiles too: 364 x 1456 is five tiles.
        """
        side = self.splitting().longest_edge
        return side, side

    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`: ``pixel_values`` ``(batch, tiles, 3, side, side)`` and an all-one
        ``pixel_attention_mask``, for pictures of one size have the same tiles and no padding."""
        options = self.processor.image_processor
        values = rescale_and_normalise(
            self.splitting().tiles(pixels, exact=exact),
            factor=options.rescale_factor if options.do_rescale else None,
            mean=options.image_mean if options.do_normalize else None,
            std=options.image_std if options.do_normalize else None,
        )
        batch, tiles, _, height, width = values.shape
        mask = torch.ones(batch, tiles, height, width, dtype=torch.int64, device=values.device)
        return {"pixel_values": values, "pixel_attention_mask": mask}


class SmolVLMAdapter(Idefics3Adapter):
    """``SmolVLMForConditionalGeneration``.

    Its own processor class asks for a video processor and for the package num2words, both for videos alone;
    for pictures ``Idefics3Processor`` does the same.
    """

    family = "smolvlm"
    model_class = "SmolVLMForConditionalGeneration"
    model_types = ("smolvlm",)
