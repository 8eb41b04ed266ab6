"""LLaVA-NeXT and LLaVA-OneVision: the whole picture, and tiles of it at the resolution that fits best."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution

from sif_offline.models.hf.base import HFAdapter
from sif_offline.models.hf.llava import height_width, plain_view
from sif_offline.models.preprocess import surround, tiles
from sif_offline.models.resize import resize


class LlavaNextAdapter(HFAdapter):
    """``LlavaNextForConditionalGeneration`` ("LLaVA-1.6"), AnyRes tiling."""

    family = "llava-next"
    model_class = "LlavaNextForConditionalGeneration"
    processor_class = "LlavaNextProcessor"
    model_types = ("llava_next",)

    def default_canvas(self) -> tuple[int, int]:
        """One view's size: the whole picture is not resized, and neither is what its tiles show."""
        return height_width(self.processor.image_processor.size)

    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`.

        ``pixel_values`` ``(batch, 1 + tiles, 3, side, side)`` and ``image_sizes`` ``(batch, 2)`` int64.
        """
        batch, _, height, width = pixels.shape
        views = any_resolution(self.processor.image_processor, pixels, exact=exact)
        return {
            "pixel_values": torch.stack(views, dim=1),
            "image_sizes": torch.tensor([[height, width]] * batch, device=pixels.device),
        }


class LlavaOnevisionAdapter(LlavaNextAdapter):
    """``LlavaOnevisionForConditionalGeneration``: the same tiling over SigLIP; one picture an answer."""

    family = "llava-onevision"
    model_class = "LlavaOnevisionForConditionalGeneration"
    processor_class = "LlavaOnevisionProcessor"
    model_types = ("llava_onevision",)

    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """See :class:`LlavaNextAdapter`; ``batch_num_images`` ``(batch,)`` int64 says one picture each."""
        ones = torch.ones(pixels.shape[0], dtype=torch.int64, device=pixels.device)
        return {**super().preprocess(pixels, exact=exact), "batch_num_images": ones}


def any_resolution(options: Any, pixels: Tensor, *, exact: bool) -> list[Tensor]:
    """The whole picture and its tiles, each ``(batch, 3, side, side)``, prepared.

    The resolution of ``image_grid_pinpoints`` is chosen by the picture's size, the picture is resized into it
    with its ratio kept, surrounded by zeros, and cut into squares.

    Args:
        options: the image processor.
        pixels: ``(batch, 3, height, width)`` in 0 .. 255.
        exact: see :func:`sif_offline.models.resize.resize`.
    """
    side = (options.crop_size or options.size).height or options.size.shortest_edge
    target = select_best_resolution(tuple(pixels.shape[-2:]), options.image_grid_pinpoints)
    fitting = get_patch_output_size(pixels, target, input_data_format="channels_first")
    fitted = resize(pixels, size=fitting, resample=options.resample, exact=exact)
    rows, columns = target[0] - fitting[0], target[1] - fitting[1]
    padded = surround(
        fitted,
        top=rows // 2,
        bottom=rows - rows // 2,
        left=columns // 2,
        right=columns - columns // 2,
    )
    whole = resize(pixels, size=height_width(options.size), resample=options.resample, exact=exact)
    return [plain_view(options, view, exact=exact) for view in (whole, *tiles(padded, side=side))]
