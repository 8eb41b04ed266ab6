"""SmolLM2-135M-Instruct as the reference language model that comes with the package."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from gateway_plugin.screening.language_models.base import LanguageModelError, Precision, no_progress_bars
from gateway_plugin.screening.language_models.causal import CausalLM, Scorer, TransformersScorer
from gateway_plugin.screening.language_models.gguf import converted, packaged_gguf
from gateway_plugin.screening.language_models.int8 import quantise_linear_layers


class SmolLM2(CausalLM):
    """SmolLM2-135M-Instruct on the CPU; scores texts as a user's turn."""

    def __init__(self, folder: Path, *, precision: Precision = "auto") -> None:
        """Load what :func:`converted` wrote. Raises :class:`LanguageModelError` naming the folder."""
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModelForCausalLM

        precision = fitting(precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        try:
            # The tokenizer knows no special tokens, so "<|im_start|>" typed by a client is scored as text.
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            with no_progress_bars():
                model = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=dtype, local_files_only=True
                ).eval()
        except Exception as error:
            raise LanguageModelError(f"{folder}: cannot be loaded as a language model ({error})") from error

        def encode(text: str) -> list[int]:
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
            return ids

        # "<|im_start|>user\n": after the bare BOS an instruct model expects a role name, so that the first
        # words of every honest text look strange; measured as a user's turn they do not.
        opening = [int(model.config.bos_token_id), *encode("user\n")]
        super().__init__(_scorer(model, precision, opening=opening, encode=encode), encode=encode)


# What the ranges of the activations are taken from in 8 bits: the kinds of text that come.
SAMPLES = (
    "What is the name of the building in the background of this photo, and in which year was it finished?",
    "Please rewrite this paragraph so that a ten-year-old can follow it, and leave out the last sentence.",
    "Опишите, пожалуйста, подробно, что изображено на этой фотографии.",
    "请详细描述这张图片中的人物和他们正在做的事情。",
    "def fib(n):\n    a, b = 0, 1\n    return [a for _ in range(n)]  # what is fib(10)?",
    "Is part number XJ-4490-BRT/Q7 compatible with GTX-1180TiZ and SKU 88-KLM-20394?",
    "The committee met on Thursday; 14 of the 23 members were present, and the budget was approved.",
    "quorTelempathNullVerbindSkipDOMAINvaletroWriteOutPunktoEXPheadLinInterpolatYesKlangUmfang",
)


def fitting(precision: Precision) -> Precision:
    """What ``auto`` is on this machine; any other precision as it is."""
    from gateway_plugin.screening.language_models.int8_llama import runs_here

    if precision != "auto":
        return precision
    return "int8" if runs_here() else "bf16"


def _scorer(
    model: Any, precision: Precision, *, opening: Sequence[int], encode: Callable[[str], list[int]]
) -> Scorer:
    from gateway_plugin.screening.language_models.int8_llama import Int8Llama, runs_here

    if precision != "int8":
        return TransformersScorer(model, opening=opening)
    if not runs_here():
        return TransformersScorer(quantise_linear_layers(model), opening=opening)
    return Int8Llama(model, opening=opening, samples=[encode(text) for text in SAMPLES])


def shared_language_model(precision: Precision = "auto") -> SmolLM2:
    """One copy of the (immutable) weights a process, however many guardrails a proxy configures."""
    return _loaded(fitting(precision))


@lru_cache(maxsize=3)
def _loaded(precision: Precision) -> SmolLM2:
    return SmolLM2(converted(packaged_gguf()), precision=precision)
