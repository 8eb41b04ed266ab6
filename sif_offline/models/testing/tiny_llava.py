"""Tiny LLaVA-1.5, LLaVA-NeXT and LLaVA-OneVision."""

from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from sif_offline.models.hf.llava import LlavaAdapter
from sif_offline.models.hf.llava_next import LlavaNextAdapter, LlavaOnevisionAdapter
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
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SIDE = 28
CLIP_OPTIONS = {
    "patch_size": 14,
    "vision_feature_select_strategy": "default",
    "num_additional_image_tokens": 1,
}


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


def siglip_vision(side: int = SIDE) -> SiglipVisionConfig:
    """A SigLIP tower with patches of 14 pixels."""
    return SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=side,
        patch_size=14,
        vision_use_head=False,
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
        options=CLIP_OPTIONS,
    )
    return LlavaAdapter(lively(LlavaForConditionalGeneration(config)), processor, name="llava:tiny")


def llava_next() -> LlavaNextAdapter:
    """Tiles of 28 pixels in the five arrangements of llava-v1.6."""
    pinpoints = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
    config = LlavaNextConfig(
        vision_config=clip_vision(),
        text_config=MistralConfig(**TEXT_SIZES, sliding_window=None),
        image_token_id=IMAGE_ID,
        image_seq_length=4,
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    processor = build_processor(
        "LlavaNextProcessor",
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_grid_pinpoints=pinpoints,
        ),
        tokenizer=byte_tokenizer(["<image>"], named={"image_token": "<image>"}, bos=True),
        chat_template=VICUNA,
        options=CLIP_OPTIONS,
    )
    model = lively(LlavaNextForConditionalGeneration(config))
    return LlavaNextAdapter(model, processor, name="llava-next:tiny")


def llava_onevision() -> LlavaOnevisionAdapter:
    """SigLIP tiles of 28 pixels, up to 3 by 3 of them, pooled beyond 2."""
    pinpoints = [[SIDE * rows, SIDE * columns] for rows in range(1, 4) for columns in range(1, 4)]
    config = LlavaOnevisionConfig(
        vision_config=siglip_vision(),
        text_config=Qwen2Config(**TEXT_SIZES),
        image_token_id=IMAGE_ID,
        video_token_id=IMAGE_ID + 1,
        image_grid_pinpoints=pinpoints,
        vision_aspect_ratio="anyres_max_2",
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    processor = build_processor(
        "LlavaOnevisionProcessor",
        image_processor=LlavaOnevisionImageProcessorPil(
            size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=pinpoints
        ),
        tokenizer=byte_tokenizer(
            ["<image>", "<video>"], named={"image_token": "<image>", "video_token": "<video>"}
        ),
        chat_template=CHATML,
        options={
            "num_image_tokens": 4,
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_2",
        },
    )
    model = lively(LlavaOnevisionForConditionalGeneration(config))
    return LlavaOnevisionAdapter(model, processor, name="llava-onevision:tiny")
