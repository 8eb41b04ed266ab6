"""Tiny Idefics3 and SmolVLM."""

from typing import Any

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from sif_offline.models.hf.idefics import Idefics3Adapter, SmolVLMAdapter
from sif_offline.models.hf.loading import build_processor
from sif_offline.models.testing.tiny import TEXT_SIZES, lively
from sif_offline.models.testing.tokenizer import byte_tokenizer

SIDE = 56
LONGEST_EDGE = 2 * SIDE
TOKENS_A_TILE = 4
SPECIAL = (
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
)
TURNS = (
    "<s>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def idefics3() -> Idefics3Adapter:
    """Processor as in Idefics3-8B-Llama3, with tiles of 56 pixels instead of 364 and two in a row."""
    sizes, processor = _parts(Idefics3ImageProcessorPil)
    model = lively(Idefics3ForConditionalGeneration(Idefics3Config(**sizes)))
    return Idefics3Adapter(model, processor, name="idefics3:tiny")


def smolvlm() -> SmolVLMAdapter:
    """Processor as in SmolVLM2-500M-Video-Instruct, with tiles of 56 pixels instead of 512 and two in a
    row."""
    sizes, processor = _parts(SmolVLMImageProcessorPil)
    model = lively(SmolVLMForConditionalGeneration(SmolVLMConfig(**sizes)))
    return SmolVLMAdapter(model, processor, name="smolvlm:tiny")


def _parts(image_processor_class: Any) -> tuple[dict[str, Any], Any]:
    tokenizer = byte_tokenizer(SPECIAL, bos=True)
    sizes = {
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 14,
        },
        "text_config": {"model_type": "llama", **TEXT_SIZES},
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "scale_factor": 2,
    }
    processor = build_processor(
        "Idefics3Processor",
        image_processor=image_processor_class(
            size={"longest_edge": LONGEST_EDGE}, max_image_size={"longest_edge": SIDE}
        ),
        tokenizer=tokenizer,
        chat_template=TURNS,
        options={"image_seq_len": TOKENS_A_TILE},
    )
    return sizes, processor
