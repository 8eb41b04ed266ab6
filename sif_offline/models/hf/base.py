"""What the adapters of all transformers families share.

A family is a subclass of :class:`HFAdapter` with

- ``family``, ``model_class``, ``processor_class`` and ``model_types``, the class names and ``model_type``
  values of transformers;
- :meth:`HFAdapter.preprocess`, the image processor in torch (:mod:`sif_offline.models.resize` and
  :mod:`sif_offline.models.preprocess` hold the exact steps), returning every name that the model's
  ``get_image_features`` takes;
- :meth:`HFAdapter.default_canvas`;

and, where the model asks for it, :meth:`HFAdapter.decoder_inputs` (positions and token types that follow the
picture's place and size) and :meth:`HFAdapter.encoded` (what its forward wants in place of pixels).

Everything else follows from two doors that transformers models share: ``get_image_features``, and
``mm_encoder_outputs`` of their ``forward``, by which features once computed serve several passes. Texts come
from the processor's own chat template for forging and asking alike. Add the family to
``registry.FAMILIES`` and a tiny model of it to ``testing.TINY``; ``tests/models/test_families.py`` then holds
it to the contract.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import LogitsProcessorList

from sif_offline.models.base import ImageFeatures
from sif_offline.models.digest import weights_digest
from sif_offline.models.hf import loading
from sif_offline.models.hf.checkpoint import Checkpoint, files_digest, find_checkpoint
from sif_offline.models.hf.decoding import decoding_rules, shown
from sif_offline.models.hf.noise import noisy_copy


@dataclass(frozen=True)
class Encoded:
    """Stands in for the output of ``get_image_features`` in ``mm_encoder_outputs``."""

    pooler_output: Any
    deepstack_features: Any = None


class HFAdapter(ABC):
    """:class:`~sif_offline.models.base.VLMAdapter` over a model of transformers; see there for every method.

    Args:
        model: of the family's class.
        processor: of the family's class, with the PIL image backend.
        name: what it was loaded as.
        device: a torch device; on ``meta`` the model has shapes alone, and only what concerns pixels and
            prompts can be asked.
        checkpoint: the files, None for a model that was built in memory.
    """

    family: ClassVar[str]
    model_class: ClassVar[str]
    processor_class: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str,
        device: str = "cpu",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        hollow = device == loading.NO_WEIGHTS
        self.device = torch.device("cpu" if hollow else device)
        self.name = name
        self.model = model.requires_grad_(False).eval()
        self.processor = processor
        if not hollow:
            self.model = self.model.to(self.device)
        if checkpoint is None:
            self.model_id = name
            self.weights_sha256 = weights_digest(self.model)
        else:
            self.model_id = f"{self.family}:{checkpoint.model_id}"
            self.weights_sha256 = "" if hollow else files_digest(checkpoint.folder)
        self.revision = (checkpoint and checkpoint.revision) or self.weights_sha256[:12]
        self.backend = str(getattr(processor.image_processor, "backend", "pil"))
        self.vocab_size = int(self.model.get_output_embeddings().weight.shape[0])
        self.image_token_id = int(self.model.config.image_token_id)
        self.special_ids = frozenset(
            {int(i) for i in processor.tokenizer.all_special_ids} | {self.image_token_id}
        )
        self.canvas = self.default_canvas()
        self.rules = decoding_rules(self.model)
        self._prompts: dict[tuple[str, tuple[int, int]], Tensor] = {}

    @classmethod
    def load(cls, rest: str, *, device: str = "cpu") -> Self:
        """A folder, or a hub id such as ``owner/name`` or ``owner/name@revision``.

        On the device ``meta`` no weights are fetched or read: enough for ``sif models check``.

        Raises:
            ModelError: no such model, another family's, one that cannot be read, or one whose processor
                prepares pictures in a way that is not reproduced here.
        """
        checkpoint = find_checkpoint(rest, family=cls.family, weights=device != loading.NO_WEIGHTS)
        model = loading.load_model(
            checkpoint, class_name=cls.model_class, model_types=cls.model_types, device=device
        )
        processor = loading.load_processor(checkpoint, class_name=cls.processor_class)
        with loading.one_line(checkpoint.spec):
            adapter = cls(model, processor, name=checkpoint.spec, device=device, checkpoint=checkpoint)
            if device != loading.NO_WEIGHTS:  # the check that is about to come says more
                adapter.refuse_other_pixels()
        return adapter

    @abstractmethod
    def default_canvas(self) -> tuple[int, int]:
        """(height, width) of a picture that the image processor does not resize, or the nearest to it."""

    @abstractmethod
    def preprocess(self, pixels: Tensor, *, exact: bool = True) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`; the names are arguments of the model's ``get_image_features``."""

    def decoder_inputs(self, ids: Tensor, features: ImageFeatures) -> dict[str, Any]:
        """Further arguments of ``forward`` for ``(batch, length)`` ids of prompt and response."""
        return {}

    def encoded(self, features: ImageFeatures) -> Any:
        """``features`` as the model's forward wants them under ``mm_encoder_outputs["image"]``.

        Of the tensors of :meth:`encode_images` the first is the embeddings, the others are DeepStack levels.
        """
        first, *deeper = features.tensors
        return Encoded(list(first), [list(level) for level in deeper])

    def refuse_other_pixels(self) -> None:
        """Compare :meth:`preprocess` with the processor on one odd picture.

        A processor with options that are not reproduced would have triggers forged on pixels that the model
        never sees.

        Raises:
            ModelError: they differ.
        """
        from sif_offline.models.checks import refuse_unequal_pixels

        refuse_unequal_pixels(self)

    def tokenizer_json(self) -> bytes:
        """See :class:`VLMAdapter`."""
        return str(self.processor.tokenizer.backend_tokenizer.to_str()).encode()

    def processed(self, images: Sequence[Image.Image], prompt: str) -> Mapping[str, Tensor]:
        """See :class:`VLMAdapter`."""
        turns = [
            [
                {
                    "role": "user",
                    "content": [{"type": "image", "image": image}, {"type": "text", "text": prompt}],
                }
            ]
            for image in images
        ]
        return dict(
            self.processor.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
        )

    def prompt_ids(self, prompt: str, *, size: tuple[int, int] | None = None) -> Tensor:
        """See :class:`VLMAdapter`; the processor itself is asked, about a blank picture of that size."""
        height, width = size or self.canvas
        key = (prompt, (height, width))
        if key not in self._prompts:
            ids = self.processed([Image.new("RGB", (width, height))], prompt)["input_ids"]
            self._prompts[key] = ids[0].to(self.device)
        return self._prompts[key]

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """See :class:`VLMAdapter`."""
        values = {
            name: value.to(self.model.dtype) if value.is_floating_point() else value
            for name, value in self.preprocess(pixels).items()
        }
        output = self.model.get_image_features(**values, return_dict=True)
        levels = [output.pooler_output, *(getattr(output, "deepstack_features", None) or [])]
        tensors = tuple(torch.stack(tuple(level)).float() for level in levels)
        return ImageFeatures(tensors, size=(int(pixels.shape[-2]), int(pixels.shape[-1])))

    def response_logits(self, features: ImageFeatures, prompt_ids: Tensor, response_ids: Tensor) -> Tensor:
        """See :class:`VLMAdapter`."""
        batch, length = response_ids.shape
        ids = torch.cat([prompt_ids.expand(batch, -1), response_ids[:, :-1]], dim=1)
        kind = self.device.type
        # a drift added in float32 meets weights of lower precision: autocast lets both stay what they are
        mixed = torch.is_autocast_enabled(kind) or self.model.dtype != torch.float32
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=mixed):
            output = self.model(
                input_ids=ids,
                mm_encoder_outputs={"image": self.encoded(features)},
                logits_to_keep=length,
                use_cache=False,
                **self.decoder_inputs(ids, features),
            )
        return output.logits.float()  # type: ignore[no-any-return] # transformers is untyped

    def decoder_layers(self) -> Sequence[nn.Module]:
        """See :class:`VLMAdapter`."""
        return list(self.model.get_decoder().layers)

    @torch.inference_mode()
    def generate(
        self,
        images: Sequence[Image.Image],
        prompt: str,
        *,
        processors: LogitsProcessorList | None = None,
        max_new_tokens: int | None = None,
    ) -> list[list[int]]:
        """See :class:`VLMAdapter`; pictures of one size are asked together.

        Raises:
            ValueError: pictures of several sizes with ``processors``.
        """
        rgb = [image.convert("RGB") for image in images]
        sizes = dict.fromkeys(image.size for image in rgb)
        if processors and len(sizes) > 1:
            raise ValueError("processors know their rows by number: give pictures of one size")
        answers: dict[int, list[int]] = {}
        for size in sizes:
            rows = [row for row, image in enumerate(rgb) if image.size == size]
            inputs = self.processed([rgb[row] for row in rows], prompt)
            output = self.model.generate(
                **{name: self._moved(value) for name, value in inputs.items()},
                logits_processor=processors or LogitsProcessorList(),
                max_new_tokens=max_new_tokens or self.rules.max_new_tokens,
                do_sample=False,
                num_beams=1,
            )
            texts = output[:, inputs["input_ids"].shape[1] :].tolist()
            answers |= {
                row: shown(ids, ends=self.rules.end_ids, special=self.special_ids)
                for row, ids in zip(rows, texts, strict=True)
            }
        return [answers[row] for row in range(len(rgb))]

    def text(self, ids: Sequence[int]) -> str:
        """See :class:`VLMAdapter`."""
        return str(self.processor.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def perturbed(self, *, noise: float, seed: int) -> Self:
        """See :class:`VLMAdapter`; all but the decoder's matrices is shared with the original."""
        other = copy.copy(self)
        other.name = f"{self.name}+noise"
        other.model = noisy_copy(self.model, self.decoder_layers(), noise=noise, seed=seed)
        return other

    def _moved(self, value: Tensor) -> Tensor:
        return value.to(self.device, self.model.dtype if value.is_floating_point() else None)
