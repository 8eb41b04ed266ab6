"""What forging, judging and calibrating ask of a vision-language model, whatever its family."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LogitsProcessorList

from sif_offline.fingerprint.errors import SifError


class ModelError(SifError):
    """A model that cannot be found or loaded; names the model."""


@dataclass(frozen=True)
class DecodingRules:
    """The deterministic part of a model's ``generation_config``.

    Args:
        max_new_tokens: length limit of an answer, in tokens.
        repetition_penalty: logits of ids seen so far are divided (if positive) or multiplied by it; 1 is off.
        no_repeat_ngram_size: no n-gram of this length may occur twice in prompt and answer together; 0 is
            off.
        end_ids: ids that end an answer.
    """

    max_new_tokens: int
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    end_ids: frozenset[int] = frozenset()


@runtime_checkable
class VLMAdapter(Protocol):
    """One loaded model of one family. All tensors live on ``device``; the model's weights are frozen.

    ``pixels`` always are the canvas's own values: ``(batch, 3, height, width)`` float in [0, 255], so that an
    8-bit PNG of the canvas's size holds exactly what the model sees.
    """

    name: str
    """What ``load_adapter`` was called with, such as ``lab:owner``."""
    model_id: str
    revision: str
    weights_sha256: str
    """SHA-256 over names, shapes, types and bytes of all weights, lower-case hex."""
    vocab_size: int
    """The pinned V: rows of the LM head."""
    special_ids: frozenset[int]
    """Ids that an answer's text does not show and that are never scored."""
    canvas: tuple[int, int]
    """(height, width) in pixels of the picture that a trigger is."""
    rules: DecodingRules
    device: torch.device

    def tokenizer_json(self) -> bytes:
        """The tokenizer as ``tokenizers.Tokenizer.from_str`` reads it, UTF-8."""
        ...

    def prompt_ids(self, prompt: str) -> Tensor:
        """``(length,)`` int64: one templated user turn with the picture's placeholders."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Pixels to decoder embeddings ``(batch, image tokens, hidden)``, differentiable in ``pixels``."""
        ...

    def response_logits(self, image_embeds: Tensor, prompt_ids: Tensor, response_ids: Tensor) -> Tensor:
        """Teacher-forced logits at the response's positions alone.

        Args:
            image_embeds: ``(batch, image tokens, hidden)`` from :meth:`encode_images`.
            prompt_ids: ``(prompt length,)`` int64, the same for the whole batch.
            response_ids: ``(batch, T)`` int64, padded on the right with any id: attention is causal, so what
                stands behind the end cannot reach back and no mask is needed.

        Returns:
            ``(batch, T, V)`` float32; row t is the distribution of ``response_ids[:, t]``, before any
            decoding rule.
        """
        ...

    def decoder_layers(self) -> Sequence[nn.Module]:
        """Decoder blocks in order; a block returns the ``(batch, length, hidden)`` state, alone or first."""
        ...

    def generate(
        self,
        images: Sequence[Image.Image],
        prompt: str,
        *,
        processors: LogitsProcessorList | None = None,
        max_new_tokens: int | None = None,
    ) -> list[list[int]]:
        """Greedy answers under the model's own decoding rules.

        Args:
            images: one RGB picture for each answer; one of another size is prepared as the model's processor
                does.
            prompt: the user's words, the same for all.
            processors: applied after the model's own rules, before the argmax.
            max_new_tokens: in place of the rules' limit.

        Returns:
            For each picture the answer's ids, special ids left out.
        """
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer, as an endpoint would send it."""
        ...

    def perturbed(self, *, noise: float, seed: int) -> "VLMAdapter":
        """A copy with Gaussian noise on the decoder: ``noise`` times each matrix's own deviation."""
        ...
