"""Byte-level BPE of the lab models."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sif_offline.lab.processing import BOS, EOS, IMAGE, PAD, SPECIAL_TOKENS


def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 4096) -> PreTrainedTokenizerFast:
    """Byte-level BPE over ``texts``: every string can be encoded, the special tokens are ids 0 to 6."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[token for token in SPECIAL_TOKENS if token not in (PAD, BOS, EOS)],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def image_token_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Id of the image placeholder."""
    return int(tokenizer.convert_tokens_to_ids(IMAGE))
