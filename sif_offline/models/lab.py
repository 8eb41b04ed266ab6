"""Adapter of the lab model."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LogitsProcessorList

from sif_offline.models.attention import NAME as ATTENTION
from sif_offline.models.base import DecodingRules, ImageFeatures, ModelError, VLMAdapter
from sif_offline.models.digest import weights_digest
from sif_offline.models.preprocess import rescale_and_normalise
from sif_offline.models.quiet import quiet_loading
from sif_offline.models.resize import Filter, resize

if TYPE_CHECKING:
    from sif_offline.lab.modeling import LabVLM
    from sif_offline.lab.processing import LabProcessor


def load(rest: str, *, device: str = "cpu") -> VLMAdapter:
    """``owner``, ``innocent-a``, ... or a checkpoint directory.

    Raises:
        ModelError: no such checkpoint, or one that cannot be read.
    """
    from sif_offline.fingerprint.errors import SifError
    from sif_offline.lab import load_lab_model

    try:
        with quiet_loading():
            model, processor = load_lab_model(rest)
    except SifError as error:
        raise ModelError(f"model lab:{rest}: {error}") from error
    except Exception as error:  # a broken checkpoint fails in any of three libraries
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"model lab:{rest}: cannot be loaded: {reason[0]}") from error
    return LabAdapter(model, processor, name=f"lab:{rest}", device=device)


class Shown:
    """The pictures of the last call and what the encoder made of them.

    An adapter shares it with its perturbed copies, whose encoder is the same: the judge asks the owner and
    each copy about the same pictures.
    """

    def __init__(self) -> None:
        self.last = (torch.empty(0), torch.empty(0))

    def embeds(self, values: Tensor, *, by: Callable[[Tensor], Tensor]) -> Tensor:
        """``by(values)``, taken from the last call where that had the same values."""
        seen, made = self.last
        if not torch.equal(seen, values):
            made = by(values)
            self.last = values, made
        return made


class LabAdapter:
    """:class:`~sif_offline.models.base.VLMAdapter` over a ``LabVLM``; see there for every method."""

    backend = "pil"

    def __init__(self, model: "LabVLM", processor: "LabProcessor", *, name: str, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.name = name
        self.model_id = name if "/" not in name else f"lab:{Path(name).name}"
        # Depthwise convolutions run a third faster on the CPU when channels lie innermost.
        self.model = model.requires_grad_(False).eval().to(self.device, memory_format=torch.channels_last)
        self.model.set_attn_implementation(ATTENTION)
        self.processor = processor
        self.weights_sha256 = weights_digest(self.model)
        self.revision = self.weights_sha256[:12]
        self.vocab_size = int(self.model.get_output_embeddings().weight.shape[0])
        self.special_ids = frozenset(int(i) for i in processor.tokenizer.all_special_ids)
        self.canvas = (int(processor.image_size), int(processor.image_size))
        self.rules = _rules(self.model)
        self.shown = Shown()

    def tokenizer_json(self) -> bytes:
        """See :class:`VLMAdapter`."""
        return str(self.processor.tokenizer.backend_tokenizer.to_str()).encode()

    def prompt_ids(self, prompt: str, *, size: tuple[int, int] | None = None) -> Tensor:
        """See :class:`VLMAdapter`; every picture has the same number of placeholders."""
        templated = self.processor.prompt(prompt)
        expanded = templated.replace("<image>", "<image>" * self.processor.image_tokens, 1)
        ids = self.processor.tokenizer(expanded, add_special_tokens=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.int64, device=self.device)

    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`: squeezed to the canvas, ``(x / 255 - mean) / std``."""
        pixels = resize(pixels, size=self.canvas, resample=Filter.BICUBIC, exact=exact)
        mean, std = self.processor.image_mean, self.processor.image_std
        # a quotient and not a product with 1 / 255, as the processor does it: the two round differently
        return {"pixel_values": rescale_and_normalise(pixels / 255, factor=None, mean=mean, std=std)}

    def processed(self, images: Sequence[Image.Image], prompt: str) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`."""
        inputs = [self.processor(self.processor.prompt(prompt), images=image) for image in images]
        return {name: torch.cat([row[name] for row in inputs]) for name in inputs[0]}

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """See :class:`VLMAdapter`."""
        values = self.preprocess(pixels)["pixel_values"].contiguous(memory_format=torch.channels_last)
        embeds = self.model.encode_images(values).float()
        return ImageFeatures((embeds,), size=(int(pixels.shape[-2]), int(pixels.shape[-1])))

    def response_logits(self, features: ImageFeatures, prompt_ids: Tensor, response_ids: Tensor) -> Tensor:
        """See :class:`VLMAdapter`."""
        batch, length = response_ids.shape
        ids = torch.cat([prompt_ids.expand(batch, -1), response_ids[:, :-1]], dim=1)
        embeds = self.model.get_input_embeddings()(ids).float()
        places = (ids == self.model.config.image_token_id).unsqueeze(-1)
        embeds = embeds.masked_scatter(places, features.tensors[0].to(embeds.dtype))
        output = self.model(inputs_embeds=embeds, logits_to_keep=length, use_cache=False)
        return output.logits.float()  # type: ignore[no-any-return] # transformers is untyped

    def decoder_layers(self) -> Sequence[nn.Module]:
        """See :class:`VLMAdapter`."""
        return list(self.model.language_model.model.layers)

    @torch.inference_mode()
    def generate(
        self,
        images: Sequence[Image.Image],
        prompt: str,
        *,
        processors: LogitsProcessorList | None = None,
        max_new_tokens: int | None = None,
    ) -> list[list[int]]:
        """See :class:`VLMAdapter`."""
        values = self.processor.pixel_values(images).to(self.device, memory_format=torch.channels_last)
        ids = self.prompt_ids(prompt).expand(len(images), -1)
        output = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            image_embeds=self.shown.embeds(values, by=self.model.encode_images),
            logits_processor=processors or LogitsProcessorList(),
            max_new_tokens=max_new_tokens or self.rules.max_new_tokens,
            do_sample=False,
        )
        answers = output[:, ids.shape[1] :].tolist()
        return [
            [i for i in _until_end(row, self.rules.end_ids) if i not in self.special_ids] for row in answers
        ]

    def text(self, ids: Sequence[int]) -> str:
        """See :class:`VLMAdapter`."""
        return str(self.processor.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def perturbed(self, *, noise: float, seed: int) -> "LabAdapter":
        """See :class:`VLMAdapter`."""
        other = copy.copy(self)
        other.name = f"{self.name}+noise"
        other.model = copy.deepcopy(self.model)
        generator = torch.Generator().manual_seed(seed)
        for parameter in other.model.language_model.model.layers.parameters():
            if parameter.ndim == 2:
                draw = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.add_(draw * parameter.std() * noise)
        return other


def _rules(model: "LabVLM") -> DecodingRules:
    config = model.generation_config
    ends = config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return DecodingRules(
        max_new_tokens=int(config.max_new_tokens or 128),
        repetition_penalty=float(config.repetition_penalty or 1.0),
        no_repeat_ngram_size=int(config.no_repeat_ngram_size or 0),
        end_ids=frozenset(int(i) for i in ends),
    )


def _until_end(ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    for place, token in enumerate(ids):
        if token in ends:
            return list(ids[:place])
    return list(ids)
