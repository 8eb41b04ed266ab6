"""Idefics3 and SmolVLM beyond the contract: published processors, rows and columns."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm import processing_smolvlm
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from sif_offline.models.checks import picture_tensor
from sif_offline.models.hf.idefics_pixels import Splitting
from sif_offline.models.testing import tiny_adapter
from sif_offline.models.testing.photos import odd_photos, photo
from sif_offline.models.testing.tiny_idefics import TOKENS_A_TILE

PROMPT = "What is this?"
NORMALISED = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 1}
WIDE, TINY, NARROW = photo("chelsea", (451, 300)), photo("chelsea", (37, 53)), photo("china", (71, 300))
# preprocessor_config.json: (family, image processor, its values)
PUBLISHED: Mapping[str, tuple[str, Any, Mapping[str, Any]]] = {
    "Idefics3-8B-Llama3": (
        "idefics3",
        Idefics3ImageProcessorPil,
        {"size": {"longest_edge": 1456}, "max_image_size": {"longest_edge": 364}},
    ),
    "SmolVLM2-500M-Video-Instruct": (
        "smolvlm",
        SmolVLMImageProcessorPil,
        {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}},
    ),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("model", "split", "images"),
    [
        ("Idefics3-8B-Llama3", True, (WIDE, TINY)),
        ("Idefics3-8B-Llama3", False, (NARROW,)),
        ("SmolVLM2-500M-Video-Instruct", True, (NARROW,)),
    ],
)
def test_pixels_are_the_published_processors(
    model: str, split: bool, images: tuple[Image.Image, ...]
) -> None:
    """Bit for bit, at the models' real resolutions."""
    family, processor_class, values = PUBLISHED[model]
    adapter = tiny_adapter(family)
    processor = processor_class(**NORMALISED, **values, do_image_splitting=split)
    adapter.processor.image_processor = processor
    for image in images:
        theirs = processor(image, return_tensors="pt")
        ours = adapter.preprocess(picture_tensor(image))
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    sides=st.sampled_from([(64, 16), (72, 32), (40, 16), (16, 16), (12, 16)]),
    split=st.booleans(),
)
@example(height=150, width=1, sides=(64, 16), split=True)
def test_any_size_is_split_as_the_processor_splits_it(
    height: int, width: int, sides: tuple[int, int], split: bool
) -> None:
    edge, tile = sides
    image = photo("coffee", (width, height))
    processor = Idefics3ImageProcessorPil(
        size={"longest_edge": edge},
        max_image_size={"longest_edge": tile},
        do_image_splitting=split,
        do_rescale=False,
        do_normalize=False,
    )
    splitting = Splitting(longest_edge=edge, tile=tile, split=split, resample=Image.Resampling.LANCZOS)
    theirs = processor(image, return_tensors="pt", return_row_col_info=True)
    assert splitting.grid(height, width) == (theirs["rows"][0][0], theirs["cols"][0][0])
    assert torch.equal(splitting.tiles(picture_tensor(image)), theirs["pixel_values"].float())


@pytest.mark.parametrize("size", [(90, 80), (90, 40), (40, 90)])
def test_every_tile_is_announced_by_row_and_column(size: tuple[int, int]) -> None:
    adapter = tiny_adapter("idefics3")
    width, height = size
    rows, columns = adapter.splitting().grid(height, width)
    expected = "".join(
        "".join(
            f"<fake_token_around_image><row_{row + 1}_col_{column + 1}>" + "<image>" * TOKENS_A_TILE
            for column in range(columns)
        )
        + "\n"
        for row in range(rows)
    )
    expected += "\n<fake_token_around_image><global-img>" + "<image>" * TOKENS_A_TILE
    ids = adapter.prompt_ids(PROMPT, size=(height, width))
    text = adapter.processor.tokenizer.decode(ids)
    assert text == f"<s>User:{expected}<fake_token_around_image>{PROMPT}<end_of_utterance>\nAssistant:"


def test_smolvlms_own_processor_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is built here with stand-ins for what it wants for videos."""
    monkeypatch.setattr(processing_smolvlm, "num2words", str)
    videos = SimpleNamespace(num_frames=1, fps=1)
    adapter = tiny_adapter("smolvlm")

    class Own(processing_smolvlm.SmolVLMProcessor):  # type: ignore[misc] # transformers is untyped
        def check_argument_for_proper_class(self, name: str, argument: Any) -> Any:
            return type(argument)

    own = Own(
        adapter.processor.image_processor,
        adapter.processor.tokenizer,
        videos,
        image_seq_len=TOKENS_A_TILE,
        chat_template=adapter.processor.chat_template,
    )
    for image in odd_photos():
        content = [{"type": "image", "image": image}, {"type": "text", "text": PROMPT}]
        text = own.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        theirs = own(images=[image], text=text, add_special_tokens=False, return_tensors="pt")
        ours = adapter.processed([image], PROMPT)
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
