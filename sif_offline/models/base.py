"""What forging, judging and calibrating ask of a vision-language model, whatever its family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class ImageFeatures:
    """What the vision side hands to the decoder, for pictures of one size. Opaque outside the adapter.

    Args:
        tensors: ``(batch, ...)`` each: the embeddings that take the placeholders' places, and whatever else
            the decoder takes from the picture, such as the states that DeepStack adds behind deeper layers.
        size: (height, width) of the pictures, in pixels.
    """

    tensors: tuple[Tensor, ...]
    size: tuple[int, int]

    def repeated(self, copies: int) -> "ImageFeatures":
        """The whole batch ``copies`` times over: all pictures, then all again. Stays on the graph."""
        if copies == 1:
            return self
        return replace(self, tensors=tuple(torch.cat([tensor] * copies) for tensor in self.tensors))

    def leaf(self) -> "ImageFeatures":
        """The same values cut off from the picture, each a leaf that wants a gradient."""
        return replace(self, tensors=tuple(tensor.detach().requires_grad_() for tensor in self.tensors))


@runtime_checkable
class VLMAdapter(Protocol):
    """One loaded model of one family. All tensors live on ``device``; the model's weights are frozen.

    ``pixels`` always are the picture's own values: ``(batch, 3, height, width)`` float in [0, 255], whole
    numbers where it matters, so that an 8-bit PNG holds exactly what the model sees. Any height and width
    will do; one call takes pictures of one size.
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
    """(height, width) in pixels of the picture that a trigger is, unless the caller says otherwise: a size
    that the model's processor does not resize, where there is one."""
    backend: str
    """Whose pixels :meth:`preprocess` gives: ``pil`` or ``torchvision``. The two differ by several 8-bit
    values; a trigger is forged for one of them."""
    rules: DecodingRules
    device: torch.device

    def tokenizer_json(self) -> bytes:
        """The tokenizer as ``tokenizers.Tokenizer.from_str`` reads it, UTF-8."""
        ...

    def prompt_ids(self, prompt: str, *, size: tuple[int, int] | None = None) -> Tensor:
        """``(length,)`` int64: one templated user turn with the picture's placeholders.

        Args:
            prompt: the user's words.
            size: (height, width) of the picture; the canvas's where not given. It matters where the number of
                placeholders follows the picture's size.
        """
        ...

    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """Pictures of one size to what the model's vision side takes, differentiable in ``pixels``.

        Args:
            pixels: ``(batch, 3, height, width)``; float64 gives float64.
            exact: the processor's own values, with the gradient straight through its rounding. False leaves
                out the rounding of a resize: the smooth function whose gradient that is.

        Returns:
            The names and values that the model's own image processor gives for these pictures.
        """
        ...

    def processed(self, images: Sequence[Image.Image], prompt: str) -> Mapping[str, Tensor]:
        """What the model's own processor and chat template make of pictures of one size and a prompt.

        The yardstick for :meth:`preprocess` and :meth:`prompt_ids`, on the CPU: ``input_ids``, and the names
        of :meth:`preprocess`.
        """
        ...

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """Pixels to what the decoder takes, differentiable in ``pixels``."""
        ...

    def response_logits(self, features: ImageFeatures, prompt_ids: Tensor, response_ids: Tensor) -> Tensor:
        """Teacher-forced logits at the response's positions alone.

        Args:
            features: from :meth:`encode_images`.
            prompt_ids: ``(prompt length,)`` int64, the same for the whole batch, of the features' size.
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
            images: one RGB picture for each answer, prepared by the model's own processor; of any sizes, but
                of one size where ``processors`` are given, which know their rows by number.
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
