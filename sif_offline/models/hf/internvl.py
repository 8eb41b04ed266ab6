"""InternVL, the HF port: tiles of one size and a thumbnail, 256 tokens each."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sif_offline.models.base import ImageFeatures
from sif_offline.models.hf.base import Encoded, HFAdapter
from sif_offline.models.hf.internvl_pixels import Tiling
from sif_offline.models.preprocess import rescale_and_normalise


class InternVLAdapter(HFAdapter):
    """``InternVLForConditionalGeneration``."""

    family = "internvl"
    model_class = "InternVLForConditionalGeneration"
    processor_class = "InternVLProcessor"
    model_types = ("internvl",)

    def tiling(self) -> Tiling:
        """As the processor has its image processor cut pictures: it asks for tiles whatever the image
        processor's own ``crop_to_patches`` says."""
        options = self.processor.image_processor
        cut = self.processor.images_kwargs.get("crop_to_patches", options.crop_to_patches)
        return Tiling(
            tile=(int(options.size["height"]), int(options.size["width"])),
            min_tiles=int(options.min_patches),
            max_tiles=int(options.max_patches) if cut else 1,
            resample=int(options.resample),
        )

    def default_canvas(self) -> tuple[int, int]:
        """One tile."""
        return self.tiling().tile

    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`: ``pixel_values`` ``(batch * tiles, 3, height, width)``, picture after
        picture."""
        options = self.processor.image_processor
        values = rescale_and_normalise(
            self.tiling().tiles(pixels, exact=exact).flatten(0, 1),
            factor=options.rescale_factor if options.do_rescale else None,
            mean=options.image_mean if options.do_normalize else None,
            std=options.image_std if options.do_normalize else None,
        )
        return {"pixel_values": values}

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """See :class:`VLMAdapter`; the tiles of a picture follow one another."""
        features = super().encode_images(pixels)
        (tiles,) = features.tensors
        return ImageFeatures((tiles.reshape(len(pixels), -1, tiles.shape[-1]),), size=features.size)

    def encoded(self, features: ImageFeatures) -> Any:
        """See :class:`HFAdapter`; this forward takes one tensor for the batch."""
        return Encoded(features.tensors[0])
