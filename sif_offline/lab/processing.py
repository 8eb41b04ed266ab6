"""Chat messages and pictures to the lab model's inputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

PAD, BOS, EOS, IMAGE = "<pad>", "<s>", "</s>", "<image>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, BOS, EOS, IMAGE, SYSTEM, USER, ASSISTANT)

CHAT_TEMPLATE = (
    "{{ '<s>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '</s>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


IMAGE_SIZE = 224
IMAGE_MEAN = (127 / 255,) * 3
IMAGE_STD = (128 / 255,) * 3


def normalised_pixels(
    images: Sequence[Image.Image],
    *,
    image_size: int = IMAGE_SIZE,
    mean: Sequence[float] = IMAGE_MEAN,
    std: Sequence[float] = IMAGE_STD,
) -> torch.Tensor:
    """RGB pictures to ``(images, 3, image_size, image_size)`` float32, ``(x / 255 - mean) / std``.

    A picture of another size is resized by PIL's bicubic filter; one of that size is left as it is.
    """
    side = (image_size, image_size)
    rgb = [image.convert("RGB") for image in images]
    resized = [image if image.size == side else image.resize(side, Image.Resampling.BICUBIC) for image in rgb]
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image in resized]) / np.float32(255)
    normalised = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(normalised.astype(np.float32)).permute(0, 3, 1, 2).contiguous()


class LabProcessor(ProcessorMixin):
    """Tokenizer and picture preparation of :class:`sif_offline.lab.modeling.LabVLM`.

    A picture becomes ``image_size`` squared by PIL's bicubic filter (a picture of that size is left as it is)
    and then ``(x / 255 - mean) / std``.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        image_size: int = IMAGE_SIZE,
        image_mean: Sequence[float] = IMAGE_MEAN,
        image_std: Sequence[float] = IMAGE_STD,
        chat_template: str | None = CHAT_TEMPLATE,
        **kwargs: Any,
    ) -> None:
        self.image_size = image_size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        super().__init__(tokenizer, chat_template=chat_template, **kwargs)

    @property
    def image_tokens(self) -> int:
        """Placeholders that one picture takes in the text."""
        return (-(-self.image_size // 32)) ** 2

    def pixel_values(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """RGB pictures of any size to ``(images, 3, image_size, image_size)`` float32."""
        return normalised_pixels(images, image_size=self.image_size, mean=self.image_mean, std=self.image_std)

    def __call__(
        self,
        text: str | Sequence[str],
        images: Image.Image | Sequence[Image.Image] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokenise templated text and prepare its pictures.

        Args:
            text: output of ``apply_chat_template``, one or several; ``<image>`` once per picture.
            images: the pictures in the order of their placeholders.
            **kwargs: passed to the tokenizer (``padding=True`` pads on the tokenizer's side).

        Returns:
            ``input_ids``, ``attention_mask`` ``(batch, length)`` int64; ``pixel_values`` where pictures came.

        Raises:
            ValueError: placeholders and pictures differ in number.
        """
        texts = [text] if isinstance(text, str) else list(text)
        pictures = [] if images is None else [images] if isinstance(images, Image.Image) else list(images)
        wanted = sum(item.count(IMAGE) for item in texts)
        if wanted != len(pictures):
            raise ValueError(f"the text names {wanted} images, {len(pictures)} were given")
        expanded = [item.replace(IMAGE, IMAGE * self.image_tokens) for item in texts]
        kwargs.setdefault("return_tensors", "pt")
        encoded = dict(self.tokenizer(expanded, add_special_tokens=False, **kwargs))
        encoded.pop("token_type_ids", None)
        if pictures:
            encoded["pixel_values"] = self.pixel_values(pictures)
        return BatchFeature(encoded)

    def prompt(self, text: str, *, image: bool = True, system: str | None = None) -> str:
        """The templated text of one user turn, with a picture before the words unless ``image`` is false."""
        content = [{"type": "image"}] if image else []
        messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": [*content, {"type": "text", "text": text}]})
        templated: str = self.apply_chat_template(messages, add_generation_prompt=True)
        return templated
