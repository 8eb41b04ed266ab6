"""Tiny LLaVA-1.5, LLaVA-NeXT and LLaVA-OneVision."""

from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sif_offline.models.hf.llava import LlavaAdapter
from sif_offline.models.hf.loading import build_processor
from sif_offline.models.testing.tiny import TEXT_SIZES, lively
from sif_offline.models.testing.tokenizer import byte_tokenizer

IMAGE_ID = 260
VICUNA = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}"
    "{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
SIDE = 28


def clip_vision(side: int = SIDE) -> CLIPVisionConfig:
    """A CLIP tower with patches of 14 pixels."""
    return CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=side,
        patch_size=14,
        projection_dim=32,
    )


def llava() -> LlavaAdapter:
    """CLIP processor as in llava-1.5-7b-hf, at 28 pixels instead of 336."""
    config = LlavaConfig(
        vision_config=clip_vision(),
        text_config=LlamaConfig(**TEXT_SIZES),
        image_token_id=IMAGE_ID,
        image_seq_length=4,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    processor = build_processor(
        "LlavaProcessor",
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        tokenizer=byte_tokenizer(["<image>"], named={"image_token": "<image>"}, bos=True),
        chat_template=VICUNA,
        options={
            "patch_size": 14,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
    )
    return LlavaAdapter(lively(LlavaForConditionalGeneration(config)), processor, name="llava:tiny")
