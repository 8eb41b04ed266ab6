"""Tiny Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

from typing import Any

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sif_offline.models.hf.loading import build_processor
from sif_offline.models.hf.qwen import Qwen2VLAdapter, Qwen3VLAdapter, Qwen25VLAdapter
from sif_offline.models.testing.tiny import TEXT_SIZES, lively
from sif_offline.models.testing.tokenizer import byte_tokenizer

SPECIAL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen2_vl() -> Qwen2VLAdapter:
    """Processor as in Qwen2-VL-7B-Instruct, with at most 16 tokens a picture."""
    ids, processor = _parts(
        "Qwen2VLProcessor", Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=112 * 112)
    )
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    config = Qwen2VLConfig(vision_config=vision, text_config=_text(), **ids)
    return Qwen2VLAdapter(lively(Qwen2VLForConditionalGeneration(config)), processor, name="qwen2-vl:tiny")


def qwen2_5_vl() -> Qwen25VLAdapter:
    """Processor as in Qwen2.5-VL-7B-Instruct, with at most 16 tokens a picture."""
    images = Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=112 * 112)
    ids, processor = _parts("Qwen2_5_VLProcessor", images)
    # windows of two by two tokens, so that a picture has several
    vision = {**_VISION, "window_size": 56, "fullatt_block_indexes": [1]}
    config = Qwen2_5_VLConfig(vision_config=vision, text_config=_text(), **ids)
    model = lively(Qwen2_5_VLForConditionalGeneration(config))
    return Qwen25VLAdapter(model, processor, name="qwen2.5-vl:tiny")


def qwen3_vl() -> Qwen3VLAdapter:
    """Processor as in Qwen3-VL-8B-Instruct, with at most 16 tokens a picture; DeepStack at two levels."""
    images = Qwen2VLImageProcessorPil(
        min_pixels=64 * 64, max_pixels=128 * 128, patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    ids, processor = _parts("Qwen3VLProcessor", images)
    vision = {**_VISION, "patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    text = {**_text(), "head_dim": 8}
    text["rope_parameters"] = {**text["rope_parameters"], "mrope_interleaved": True}
    config = Qwen3VLConfig(vision_config=vision, text_config=text, **ids)
    return Qwen3VLAdapter(lively(Qwen3VLForConditionalGeneration(config)), processor, name="qwen3-vl:tiny")


_VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}


def _text() -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    return {**TEXT_SIZES, "rope_parameters": rope}


def _parts(processor_class: str, image_processor: Any) -> tuple[dict[str, int], Any]:
    tokenizer = byte_tokenizer(SPECIAL)
    names = ("vision_start", "vision_end", "image", "video")
    ids = dict(
        zip((f"{n}_token_id" for n in names), tokenizer.convert_tokens_to_ids(SPECIAL[2:]), strict=True)
    )
    processor = build_processor(
        processor_class,
        image_processor=image_processor,
        tokenizer=tokenizer,
        chat_template=CHATML,
        options={},
    )
    return ids, processor
