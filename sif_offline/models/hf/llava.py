"""LLaVA-1.5: one CLIP view of the picture, shorter side resized, middle cut out."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sif_offline.models.hf.base import HFAdapter
from sif_offline.models.preprocess import centre_crop, rescale_and_normalise, surround
from sif_offline.models.resize import resize


class LlavaAdapter(HFAdapter):
    """``LlavaForConditionalGeneration`` with a CLIP or LLaVA image processor."""

    family = "llava"
    model_class = "LlavaForConditionalGeneration"
    processor_class = "LlavaProcessor"
    model_types = ("llava",)

    def default_canvas(self) -> tuple[int, int]:
        """The crop, or the size that the processor resizes to: neither resized nor cropped."""
        options = self.processor.image_processor
        side = options.crop_size if options.do_center_crop else options.size
        return height_width(side)

    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`: ``pixel_values`` ``(batch, 3, side, side)``."""
        options = self.processor.image_processor
        if options.do_pad:
            pixels = _squared(pixels, colour=[int(value * 255) for value in options.image_mean])
        return {"pixel_values": plain_view(options, pixels, exact=exact)}


def plain_view(options: Any, pixels: Tensor, *, exact: bool) -> Tensor:
    """Resize, crop, rescale and normalise as an image processor's ``options`` say.

    Args:
        options: of ``PilBackend``.
        pixels: ``(..., 3, height, width)`` in 0 .. 255.
        exact: see :func:`sif_offline.models.resize.resize`.
    """
    if options.do_resize:
        size = resized_to(options.size, (int(pixels.shape[-2]), int(pixels.shape[-1])))
        pixels = resize(pixels, size=size, resample=options.resample, exact=exact)
    if options.do_center_crop:
        pixels = centre_crop(pixels, size=height_width(options.crop_size))
    return rescale_and_normalise(
        pixels,
        factor=options.rescale_factor if options.do_rescale else None,
        mean=options.image_mean if options.do_normalize else None,
        std=options.image_std if options.do_normalize else None,
    )


def resized_to(wanted: Any, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that a ``SizeDict`` asks for: both sides, or the shorter one with the ratio kept."""
    if wanted.shortest_edge is None:
        return int(wanted.height), int(wanted.width)
    short, long = sorted(size)
    # the processor's order: multiply first, then divide, then cut off
    longer = int(wanted.shortest_edge * long / short)
    return (longer, wanted.shortest_edge) if size[0] >= size[1] else (wanted.shortest_edge, longer)


def height_width(wanted: Any) -> tuple[int, int]:
    """(height, width) of a square or a rectangle as a ``SizeDict`` gives it."""
    if wanted.shortest_edge is not None:
        return int(wanted.shortest_edge), int(wanted.shortest_edge)
    return int(wanted.height), int(wanted.width)


def _squared(pixels: Tensor, *, colour: list[int]) -> Tensor:
    height, width = pixels.shape[-2:]
    rows, columns = max(0, width - height), max(0, height - width)
    return surround(
        pixels,
        top=rows // 2,
        bottom=rows - rows // 2,
        left=columns // 2,
        right=columns - columns // 2,
        colour=colour,
    )
