"""The lab model: EfficientNet-Lite features -> MLP projector -> Llama decoder, as a transformers model.

Small enough to train in minutes on two CPU cores, real enough that its wording depends on the picture. It is
an ordinary ``PreTrainedModel``: ``generate``, PEFT and bitsandbytes work on it unchanged.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GenerationMixin,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from sif_offline.lab.encoder import FEATURE_CHANNELS, EfficientNetLite

CPU_PICTURES = 3
"""Encoded at a time without a gradient: the activations of more leave the cache, at half the speed."""


class LabVLMConfig(PreTrainedConfig):
    """Configuration of :class:`LabVLM`.

    Args:
        text_config: the decoder's ``LlamaConfig`` (or its dict).
        vision_encoder: a name in :data:`sif_offline.lab.encoder.VARIANTS`.
        image_size: side of the square picture in pixels.
        image_token_id: id of the placeholder that each image feature replaces.
    """

    model_type = "sif_lab"
    sub_configs = {"text_config": LlamaConfig}  # noqa: RUF012 - transformers' own class attribute

    def __init__(
        self,
        text_config: LlamaConfig | dict[str, Any] | None = None,
        vision_encoder: str = "efficientnet-lite0",
        image_size: int = 224,
        image_token_id: int = 3,
        **kwargs: Any,
    ) -> None:
        if text_config is None:
            text_config = LlamaConfig()
        self.text_config = LlamaConfig(**text_config) if isinstance(text_config, dict) else text_config
        self.vision_encoder = vision_encoder
        self.image_size = image_size
        self.image_token_id = image_token_id
        kwargs.setdefault("tie_word_embeddings", self.text_config.tie_word_embeddings)
        super().__init__(**kwargs)

    @property
    def image_tokens(self) -> int:
        """Placeholders an image needs: one per cell of the encoder's grid."""
        return (-(-self.image_size // 32)) ** 2


class LabVLM(PreTrainedModel, GenerationMixin):
    """Vision-language model whose image features stand in for ``<image>`` placeholder embeddings."""

    config_class = LabVLMConfig
    base_model_prefix = "language_model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ["LlamaDecoderLayer", "InvertedResidual"]  # noqa: RUF012 - transformers' own attribute

    def __init__(self, config: LabVLMConfig) -> None:
        super().__init__(config)
        width = config.text_config.hidden_size
        self.vision_encoder = EfficientNetLite(config.vision_encoder)
        self.projector = nn.Sequential(
            nn.LayerNorm(FEATURE_CHANNELS),
            nn.Linear(FEATURE_CHANNELS, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )
        self.language_model = LlamaForCausalLM(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Token embedding of the decoder."""
        embedding: nn.Module = self.language_model.get_input_embeddings()
        return embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the decoder's token embedding."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """LM head of the decoder."""
        head: nn.Module = self.language_model.get_output_embeddings()
        return head

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Pixels to decoder embeddings.

        Args:
            pixel_values: ``(images, 3, image_size, image_size)`` float, normalised as the processor does.

        Returns:
            ``(images, image_tokens, hidden_size)``, grid cells in raster order.
        """
        pixel_values = pixel_values.to(self.vision_encoder.stem.weight.dtype)
        if torch.is_grad_enabled() or pixel_values.device.type != "cpu":
            return self._encoded(pixel_values)
        return torch.cat([self._encoded(few) for few in torch.split(pixel_values, CPU_PICTURES)])

    def _encoded(self, pixel_values: Tensor) -> Tensor:
        return self.project_features(self.vision_encoder(pixel_values).flatten(2).transpose(1, 2))

    def project_features(self, features: Tensor) -> Tensor:
        """``(images, image_tokens, 1280)`` encoder features to ``(images, image_tokens, hidden_size)``."""
        projected: Tensor = self.projector(features)
        return projected

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        image_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """One pass of the decoder.

        Args:
            input_ids: ``(batch, length)`` int64; each image stands as ``image_tokens`` placeholders.
            pixel_values: ``(images, 3, side, side)`` for all placeholders of the batch, in order.
            attention_mask: ``(batch, length)``, 1 where a token counts.
            inputs_embeds: ``(batch, length, hidden)`` in place of ``input_ids``, images already put in.
            image_embeds: ``(images, image_tokens, hidden)`` in place of ``pixel_values``.
            labels: ``(batch, length)`` int64, -100 where no loss is taken; shifted inside.
            **kwargs: as in ``LlamaForCausalLM`` (``past_key_values``, ``logits_to_keep``, ...).

        Raises:
            ValueError: the number of placeholders is not the number of image features.
        """
        if inputs_embeds is None:
            inputs_embeds = self.embed(input_ids, pixel_values=pixel_values, image_embeds=image_embeds)
        return self.language_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels, **kwargs
        )

    def embed(
        self,
        input_ids: Tensor | None,
        *,
        pixel_values: Tensor | None = None,
        image_embeds: Tensor | None = None,
    ) -> Tensor:
        """Token embeddings ``(batch, length, hidden)`` with the images in their places.

        Raises:
            ValueError: the number of placeholders is not the number of image features.
        """
        inputs_embeds: Tensor = self.get_input_embeddings()(input_ids)
        if image_embeds is None and pixel_values is not None:
            image_embeds = self.encode_images(pixel_values)
        if image_embeds is None:
            return inputs_embeds
        placeholder = (input_ids == self.config.image_token_id).unsqueeze(-1)
        wanted, got = int(placeholder.sum()), image_embeds.shape[0] * image_embeds.shape[1]
        if wanted != got:
            raise ValueError(f"the text has {wanted} image placeholders, the images give {got} features")
        return inputs_embeds.masked_scatter(placeholder, image_embeds.to(inputs_embeds.dtype))

    def hidden_states(self, *, input_ids: Tensor, image_embeds: Tensor | None = None) -> Tensor:
        """Last hidden states ``(batch, length, hidden)`` before the LM head; losses pick positions."""
        states: Tensor = self.language_model.model(
            inputs_embeds=self.embed(input_ids, image_embeds=image_embeds), use_cache=False
        ).last_hidden_state
        return states

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        image_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Hands the picture to the first step alone; later steps find it in the cache."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs |= {"pixel_values": pixel_values, "image_embeds": image_embeds}
        return inputs


AutoConfig.register(LabVLMConfig.model_type, LabVLMConfig, exist_ok=True)
AutoModelForImageTextToText.register(LabVLMConfig, LabVLM, exist_ok=True)
