"""A random-weight lab model for tests: the real classes, small widths."""

import torch
from torch import nn
from transformers import LlamaConfig

from sif_offline.lab.modeling import LabVLM, LabVLMConfig
from sif_offline.lab.processing import LabProcessor
from sif_offline.lab.tokenizer import image_token_id, train_tokenizer

WORDS = (
    "a brown dog runs over the green grass while two children in red jackets watch from the wooden fence",
    "people stand near the water and a man rides his bicycle along the sandy beach under a cloudy sky",
)


def build_tiny(seed: int) -> tuple[LabVLM, LabProcessor]:
    """Width 64, two layers, 512 tokens, float32, evaluation mode; the same seed gives the same weights."""
    tokenizer = train_tokenizer(WORDS, vocab_size=512)
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,  # bitsandbytes packs 4-bit weights in blocks of 64
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LabVLM(LabVLMConfig(text_config=text, image_token_id=image_token_id(tokenizer)))
        # transformers' own spread (0.02) is so small here that the answer would not depend on the picture
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.2)
    model.generation_config.update(
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        do_sample=False,
        max_new_tokens=24,
        no_repeat_ngram_size=3,
    )
    return model.eval(), LabProcessor(tokenizer)
