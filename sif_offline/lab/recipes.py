"""How each shipped lab model is made: encoder, widths, half of the data, seed, steps."""

from dataclasses import dataclass

from transformers import LlamaConfig


@dataclass(frozen=True)
class Recipe:
    """Settings of one lab model.

    Args:
        name: of the checkpoint.
        vision_encoder: a name in :data:`sif_offline.lab.encoder.VARIANTS`; frozen.
        hidden_size: width of the decoder.
        layers: of the decoder.
        heads: of its attention.
        half: 0 or 1 to train on half of the photos, None for all of the training split.
        seed: of weights, batches and instructions.
        steps: of AdamW on a CPU; a GPU run multiplies them.
        batch_size: sequences a step.
        learning_rate: peak of a cosine schedule with warm-up.
        weight_decay: of AdamW.
    """

    name: str
    vision_encoder: str
    hidden_size: int
    layers: int
    heads: int
    half: int | None
    seed: int
    steps: int
    batch_size: int = 24
    learning_rate: float = 1e-3
    weight_decay: float = 0.1

    def decoder(self, *, vocab_size: int) -> LlamaConfig:
        """The decoder's configuration."""
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=4 * self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("owner", "efficientnet-lite0", 256, 6, 4, half=None, seed=0, steps=2500),
        Recipe("innocent-a", "efficientnet-lite0", 192, 5, 3, half=0, seed=1, steps=1000),
        Recipe("innocent-b", "efficientnet-lite2", 256, 4, 4, half=1, seed=2, steps=1000),
        Recipe("innocent-c", "efficientnet-lite2", 192, 6, 6, half=0, seed=3, steps=1000),
    )
}
