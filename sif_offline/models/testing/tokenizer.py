"""A tokenizer for tiny models: bytes and whatever special tokens a family names."""

from collections.abc import Mapping, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PLAIN = ("<pad>", "<s>", "</s>", "<unk>")


def byte_tokenizer(
    special: Sequence[str] = (), *, named: Mapping[str, str] | None = None, bos: bool = False
) -> PreTrainedTokenizerFast:
    """One token a byte, ids 4 .. 259; ``<pad>``, ``<s>``, ``</s>`` and ``<unk>`` before, ``special`` after.

    Args:
        special: further special tokens, such as ``<image>``; their ids start at 260.
        named: attributes of the tokenizer that name a special token, such as ``{"image_token": "<image>"}``.
        bos: put ``<s>`` before every text, as Llama's tokenizer does.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*PLAIN, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (*PLAIN, *special)])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(special),
        extra_special_tokens=dict(named or {}),
        padding_side="left",
    )
