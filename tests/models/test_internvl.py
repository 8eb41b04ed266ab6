"""InternVL beyond the contract: the published processor, the choice of a grid, the order of tiles."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)

from sif_offline.models.checks import picture_tensor
from sif_offline.models.hf.internvl_pixels import Tiling
from sif_offline.models.testing import tiny_adapter
from sif_offline.models.testing.photos import odd_photos, photo
from sif_offline.models.testing.tiny_internvl import TOKENS_A_TILE

# preprocessor_config.json of InternVL3-1B-hf; its crop_to_patches is overruled by the processor
PUBLISHED = {
    "crop_to_patches": False,
    "size": {"height": 448, "width": 448},
    "resample": 3,
    "min_patches": 1,
    "max_patches": 12,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
TILES_OF_448 = Tiling(tile=(448, 448), min_tiles=1, max_tiles=12, resample=Image.Resampling.BICUBIC)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_pixels_are_the_published_processors() -> None:
    """Bit for bit, tiles and thumbnail, at 448 pixels."""
    adapter = tiny_adapter("internvl")
    processor = GotOcr2ImageProcessorPil(**PUBLISHED)
    adapter.processor.image_processor = processor
    counts = set()
    for image in (photo("astronaut", (480, 480)), *odd_photos()[-3:]):
        theirs = processor(image, crop_to_patches=True, return_tensors="pt")
        (ours,) = adapter.preprocess(picture_tensor(image)).values()
        assert torch.equal(ours, theirs["pixel_values"])
        assert adapter.tiling().count(image.height, image.width) == int(theirs["num_patches"][0])
        counts.add(len(ours))
    assert 1 in counts  # without a thumbnail
    assert len(counts) > 2
    assert adapter.default_canvas() == (448, 448)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000), most=st.sampled_from([2, 6, 12]))
@example(height=900, width=900, most=12)  # a square: one, four and nine tiles are equally near
@example(height=448, width=448, most=12)
def test_grid_is_the_processors(height: int, width: int, most: int) -> None:
    tiling = Tiling(tile=(448, 448), min_tiles=1, max_tiles=most, resample=Image.Resampling.BICUBIC)
    columns, rows = get_optimal_tiled_canvas((height, width), (448, 448), 1, most)
    assert tiling.grid(height, width) == (rows, columns)


def test_without_tiling_the_picture_is_squeezed_into_one_tile() -> None:
    processor = GotOcr2ImageProcessorPil(**PUBLISHED)
    image = photo("coffee")
    theirs = processor(image, return_tensors="pt")["pixel_values"]
    adapter = tiny_adapter("internvl")
    adapter.processor.image_processor = processor
    adapter.processor.images_kwargs = {"crop_to_patches": False}
    (ours,) = adapter.preprocess(picture_tensor(image)).values()
    assert torch.equal(ours, theirs)


def test_tiles_go_row_by_row_and_the_thumbnail_comes_last() -> None:
    pixels = torch.arange(448 * 2 * 448 * 3, dtype=torch.float32).reshape(1, 1, 896, 1344) % 251
    pixels = pixels.expand(1, 3, -1, -1)
    tiles = TILES_OF_448.tiles(pixels)
    assert tiles.shape == (1, 7, 3, 448, 448)
    for place in range(6):
        top, left = 448 * (place // 3), 448 * (place % 3)
        assert torch.equal(tiles[:, place], pixels[..., top : top + 448, left : left + 448])


def test_a_picture_keeps_its_own_tiles_in_a_batch() -> None:
    """Features are one row a picture, whatever the number of its tiles."""
    adapter = tiny_adapter("internvl")
    images = [photo(name, (200, 90)) for name in ("coffee", "chelsea")]
    tiles = adapter.tiling().count(90, 200)
    assert tiles > 1
    both = adapter.encode_images(torch.cat([picture_tensor(image) for image in images]))
    assert both.tensors[0].shape[:2] == (2, tiles * TOKENS_A_TILE)
    for row, image in enumerate(images):
        alone = adapter.encode_images(picture_tensor(image)).tensors[0]
        torch.testing.assert_close(both.tensors[0][row], alone[0], rtol=1e-4, atol=1e-5)
