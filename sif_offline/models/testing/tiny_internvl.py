"""Tiny InternVL."""

from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from sif_offline.models.hf.internvl import InternVLAdapter
from sif_offline.models.hf.loading import build_processor
from sif_offline.models.testing.tiny import TEXT_SIZES, lively
from sif_offline.models.testing.tokenizer import byte_tokenizer

SIDE = 56
TOKENS_A_TILE = 4
NAMED = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def internvl() -> InternVLAdapter:
    """Processor as in InternVL3-1B-hf, with tiles of 56 pixels instead of 448."""
    tokenizer = byte_tokenizer(["<|im_start|>", "<|im_end|>", *NAMED.values()], named=NAMED)
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [SIDE, SIDE],
            "patch_size": [14, 14],
        },
        text_config={"model_type": "qwen2", **TEXT_SIZES},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=TOKENS_A_TILE,
        tie_word_embeddings=False,
    )
    processor = build_processor(
        "InternVLProcessor",
        image_processor=GotOcr2ImageProcessorPil(
            size={"height": SIDE, "width": SIDE},
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
            max_patches=6,
        ),
        tokenizer=tokenizer,
        chat_template=CHATML,
        options={"image_seq_length": TOKENS_A_TILE},
    )
    return InternVLAdapter(lively(InternVLForConditionalGeneration(config)), processor, name="internvl:tiny")
