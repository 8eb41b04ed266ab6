"""Scores texts in batches with a causal language model of ``transformers`` that is in memory."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from gateway_plugin.screening.language_models.base import Surprisals
from gateway_plugin.screening.texts import text_ends

CHUNK_TOKENS = 256  # a longer text is scored in pieces of this many tokens, each a turn of its own
MAX_ROWS = 16
LOGITS = 2**26  # numbers in the logits of one batch: 128 MB in bf16


class Scorer(Protocol):
    """Surprisals of token ids, behind a fixed opening.

    positions: how many it runs together best; one longer chunk may go alone.
    """

    positions: int

    def surprisals(self, chunks: Sequence[Sequence[int]]) -> list[Surprisals]:
        """In nats, of each token given those before it: one array of shape ``(len(chunk),)`` a chunk.

        At least one chunk, none empty."""
        ...


class CausalLM:
    """A causal language model in this process. Thread-safe for one call at a time.

    Args:
        scorer: runs the model.
        encode: text to token ids; must not know special tokens, so that one typed by a client is text.
        chunk_tokens: longest piece that is scored at once.
    """

    def __init__(
        self, scorer: Scorer, *, encode: Callable[[str], list[int]], chunk_tokens: int = CHUNK_TOKENS
    ) -> None:
        self._scorer, self._encode, self._chunk_tokens = scorer, encode, chunk_tokens

    def token_surprisals(self, texts: Sequence[str], *, max_tokens: int) -> list[tuple[Surprisals, int]]:
        """Surprisal in nats of each token given those before it in its chunk, after the opening.

        A text of more than ``max_tokens`` tokens has its first and last ``max_tokens // 2`` scored: a
        prefix and a suffix are where gibberish is hidden, and time per prompt must be bounded.
        """
        chunks: list[list[int]] = []
        owner: list[int] = []
        lengths: list[int] = []
        for index, text in enumerate(texts):
            shown = text_ends(text, characters=32 * max_tokens)
            ids = self._encode(shown)
            lengths.append(len(ids) if shown is text else max(len(ids), max_tokens + 1))
            if len(ids) > max_tokens:
                ids = ids[: max_tokens - max_tokens // 2] + ids[len(ids) - max_tokens // 2 :]
            for start in range(0, len(ids), self._chunk_tokens):
                chunks.append(ids[start : start + self._chunk_tokens])
                owner.append(index)
        pieces: list[list[Surprisals]] = [[] for _ in texts]
        for index, surprisals in zip(owner, self._score_chunks(chunks), strict=True):
            pieces[index].append(surprisals)
        empty = np.zeros(0, dtype=np.float32)
        return [
            (np.concatenate(parts) if parts else empty, length)
            for parts, length in zip(pieces, lengths, strict=True)
        ]

    def _score_chunks(self, chunks: list[list[int]]) -> list[Surprisals]:
        """Chunks of like length share a padded batch, so that padding costs little."""
        result: dict[int, Surprisals] = {}
        order = sorted(range(len(chunks)), key=lambda index: len(chunks[index]))
        start = 0
        while start < len(order):
            width = len(chunks[order[min(start + MAX_ROWS - 1, len(order) - 1)]])
            rows = max(1, min(MAX_ROWS, self._scorer.positions // max(width, 1)))
            batch = order[start : start + rows]
            result.update(zip(batch, self._scorer.surprisals([chunks[i] for i in batch]), strict=True))
            start += rows
        return [result[index] for index in range(len(chunks))]


class TransformersScorer:
    """A ``transformers`` causal language model in evaluation mode on the CPU, in its own precision."""

    def __init__(self, model: Any, *, opening: Sequence[int]) -> None:
        """``opening``: token ids in front of every text, at least one."""
        if not opening:
            raise ValueError("at least one token must stand in front of a text")
        self._model, self._opening = model, list(opening)
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.positions = min(1024, LOGITS // int(model.config.get_text_config().vocab_size))

    def surprisals(self, chunks: Sequence[Sequence[int]]) -> list[Surprisals]:
        """See :class:`Scorer`."""
        import torch

        width, opening = max(len(chunk) for chunk in chunks), len(self._opening)
        # Right padding under a causal mask never reaches a real position: no attention mask is needed.
        ids = torch.full((len(chunks), opening + width), self._opening[0], dtype=torch.long)
        ids[:, :opening] = torch.tensor(self._opening)
        for row, chunk in enumerate(chunks):
            ids[row, opening : opening + len(chunk)] = torch.tensor(chunk)
        keep = {"logits_to_keep": width} if self._keeps else {}
        with torch.inference_mode():
            logits = self._model(input_ids=ids[:, :-1], use_cache=False, **keep).logits[:, -width:]
            # A row at a time and only where there is text: the float32 copy stays in the processor's cache.
            return [
                torch.nn.functional.cross_entropy(
                    logits[row, : len(chunk)].float(),
                    ids[row, opening : opening + len(chunk)],
                    reduction="none",
                ).numpy()
                for row, chunk in enumerate(chunks)
            ]
