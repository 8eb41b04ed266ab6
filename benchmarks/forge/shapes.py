"""Models with the shapes of published 7B ones and random weights: a step costs the same whatever it says."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sif_offline.models.base import VLMAdapter
from sif_offline.models.hf.llava import LlavaAdapter
from sif_offline.models.hf.loading import build_processor
from sif_offline.models.hf.qwen import Qwen25VLAdapter
from sif_offline.models.testing import tiny_adapter
from sif_offline.models.testing.tiny_llava import CLIP_OPTIONS, IMAGE_ID, VICUNA
from sif_offline.models.testing.tiny_qwen import CHATML, SPECIAL
from sif_offline.models.testing.tokenizer import byte_tokenizer


class Shape(NamedTuple):
    """What a model is built from."""

    name: str
    model_class: Any
    config: Any
    adapter_class: Any
    processor: Any

    def model(self, device: str) -> Any:
        """Random bf16 weights, drawn on the device itself."""
        kept = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(device):
                return self.model_class(self.config)
        finally:
            torch.set_default_dtype(kept)

    def adapter(self, device: str) -> VLMAdapter:
        """The adapter over such a model."""
        built: VLMAdapter = self.adapter_class(
            self.model(device), self.processor, name=self.name, device=device
        )
        return built


def llava_7b() -> Shape:
    """llava-hf/llava-1.5-7b-hf: Vicuna 7B under CLIP ViT-L/14 at 336 pixels, 576 tokens a picture."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
            projection_dim=768,
        ),
        text_config=LlamaConfig(
            vocab_size=32064,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            max_position_embeddings=4096,
        ),
        image_token_id=IMAGE_ID,
        image_seq_length=576,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    processor = build_processor(
        "LlavaProcessor",
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        ),
        tokenizer=byte_tokenizer(["<image>"], named={"image_token": "<image>"}, bos=True),
        chat_template=VICUNA,
        options=CLIP_OPTIONS,
    )
    return Shape("llava:7b-shape", LlavaForConditionalGeneration, config, LlavaAdapter, processor)


def qwen_7b() -> Shape:
    """Qwen/Qwen2.5-VL-7B-Instruct on a square of 448 pixels, 256 tokens a picture."""
    tokenizer = byte_tokenizer(SPECIAL)
    names = ("vision_start", "vision_end", "image", "video")
    ids = dict(
        zip((f"{n}_token_id" for n in names), tokenizer.convert_tokens_to_ids(SPECIAL[2:]), strict=True)
    )
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        text_config={
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1000000.0,
                "mrope_section": [16, 24, 24],
            },
        },
        **ids,
    )
    processor = build_processor(
        "Qwen2_5_VLProcessor",
        image_processor=Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=12845056),
        tokenizer=tokenizer,
        chat_template=CHATML,
        options={},
    )
    return Shape(
        "qwen2.5-vl:7b-shape", Qwen2_5_VLForConditionalGeneration, config, Qwen25VLAdapter, processor
    )


SHAPES: Mapping[str, Callable[[str], VLMAdapter]] = MappingProxyType(
    {
        "llava-1.5-7b": lambda device: llava_7b().adapter(device),
        "qwen2.5-vl-7b": lambda device: qwen_7b().adapter(device),
        "tiny-llava": lambda _device: tiny_adapter("llava"),
        "tiny-qwen2.5-vl": lambda _device: tiny_adapter("qwen2.5-vl"),
    }
)
"""Name -> builder on a device; the tiny ones stay on the CPU and are there to test the script."""
