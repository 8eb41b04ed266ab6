"""Tiny Gemma 3."""

from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from sif_offline.models.hf.gemma3 import Gemma3Adapter
from sif_offline.models.hf.loading import build_processor
from sif_offline.models.testing.tiny import TEXT_SIZES, lively
from sif_offline.models.testing.tiny_llava import siglip_vision
from sif_offline.models.testing.tokenizer import byte_tokenizer

SIDE = 56
START, IMAGE, END = "<start_of_image>", "<image_soft_token>", "<end_of_image>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def gemma3() -> Gemma3Adapter:
    """SigLIP at 56 pixels, four soft tokens a picture; one layer of each kind of attention."""
    config = Gemma3Config(
        vision_config=siglip_vision(SIDE),
        text_config=Gemma3TextConfig(
            **TEXT_SIZES,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=64,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        mm_tokens_per_image=4,
        boi_token_index=260,
        eoi_token_index=262,
        image_token_index=261,
    )
    special = [START, IMAGE, END, "<start_of_turn>", "<end_of_turn>"]
    processor = build_processor(
        "Gemma3Processor",
        image_processor=Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        tokenizer=byte_tokenizer(
            special, named={"boi_token": START, "image_token": IMAGE, "eoi_token": END}, bos=True
        ),
        chat_template=TEMPLATE,
        options={"image_seq_length": 4},
    )
    return Gemma3Adapter(lively(Gemma3ForConditionalGeneration(config)), processor, name="gemma3:tiny")
