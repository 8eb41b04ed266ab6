"""Any causal language model of ``transformers`` as a reference, from a folder or the Hugging Face hub."""

from pathlib import Path
from typing import Any

from gateway_plugin.screening.language_models.base import LanguageModelError, Precision, no_progress_bars
from gateway_plugin.screening.language_models.causal import CHUNK_TOKENS, CausalLM, TransformersScorer
from gateway_plugin.screening.language_models.int8 import quantise_linear_layers

_PLACE = "\u2063content\u2063"


def load_transformers_lm(name: str, *, precision: Precision = "auto") -> CausalLM:
    """Load ``name``, a folder or a hub id, on the CPU; ``auto`` is bf16.

    Only safetensors are read and no code of the model's repository runs. Texts are scored after the opening
    of a user's turn where the tokenizer has a chat template, else after the beginning-of-text token.

    Raises:
        LanguageModelError: anything is missing or does not fit together; names the model.
    """
    folder = model_folder(name)
    try:
        tokenizer, model = _load(str(folder or name), precision=precision, local=folder is not None)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise LanguageModelError(f"{name}: cannot be loaded as a language model ({first})") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise LanguageModelError(f"{name}: needs a tokenizer.json")
    opening = opening_ids(tokenizer)
    if not opening:
        raise LanguageModelError(f"{name}: has neither a chat template nor a beginning-of-text token")
    config = model.config.get_text_config()
    if len(tokenizer) > config.vocab_size:
        raise LanguageModelError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, the model only {config.vocab_size}"
        )
    room = int(getattr(config, "max_position_embeddings", None) or CHUNK_TOKENS + len(opening))
    chunk = min(CHUNK_TOKENS, room - len(opening))
    if chunk < 8:
        raise LanguageModelError(f"{name}: {room} positions are too few after an opening of {len(opening)}")
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # a control token that a client types is text

    def encode(text: str) -> list[int]:
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        return ids

    return CausalLM(TransformersScorer(model, opening=opening), encode=encode, chunk_tokens=chunk)


def model_folder(name: str) -> Path | None:
    """The folder that ``name`` is; ``None`` where it can be a hub's id. Raises :class:`LanguageModelError`
    for a path to no folder."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise LanguageModelError(f"{name}: no such folder")
    return None


def opening_ids(tokenizer: Any) -> list[int]:
    """What stands before a user's words in the chat template; without one the beginning-of-text token."""
    if getattr(tokenizer, "chat_template", None):
        turn = [{"role": "user", "content": _PLACE}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=False)
        head, found, _ = text.partition(_PLACE)
        if found and head:
            ids: list[int] = tokenizer(head, add_special_tokens=False)["input_ids"]
            return ids
    return [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]


def _load(source: str, *, precision: Precision, local: bool) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    dtype = torch.bfloat16 if precision in ("auto", "bf16") else torch.float32
    with no_progress_bars():
        tokenizer = AutoTokenizer.from_pretrained(source, **safe)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, **safe).eval()
    return tokenizer, quantise_linear_layers(model) if precision == "int8" else model
