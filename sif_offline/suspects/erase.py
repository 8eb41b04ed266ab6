"""White-box erasure: retraining that aims at a fingerprint without knowing its key.

The thief knows how such fingerprints work, not where this one is. He has the weights, pictures of his own,
and what the stolen model says about them; what he wants to keep is its quality on clean pictures. Three ways:

- noise: the answers to clean pictures are taught to pictures with noise, so that small changes of a picture
  no longer move the answer;
- paraphrase: the model's own answers, reworded as far as the table goes, so that its choice among words of
  one meaning moves;
- reset: the last quarter of the decoder's blocks is drawn anew and taught the model's distributions again
  (after RemovalNet, Yao et al. 2023, arXiv 2308.12319: unlearn what is special to the fingerprint, distil
  what is general. Its bilevel search for the former is left out: here it is forgotten outright).

How much evidence each leaves, and what it costs in quality, is for the evaluation to measure.
"""

import copy
import random
from collections.abc import Callable
from dataclasses import asdict

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from sif_offline.lab.batches import IGNORED, Batch
from sif_offline.lab.data import Captioned
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.suspects.answered import answered
from sif_offline.suspects.base import Progress, Stolen
from sif_offline.suspects.cache import trained_copy
from sif_offline.suspects.finetune import finetune
from sif_offline.suspects.own_data import encoded, own_pictures
from sif_offline.suspects.paraphrase import paraphrase
from sif_offline.suspects.perturb import noisy
from sif_offline.suspects.training import BatchLoss, TrainSettings, taught

VERSION = 1
"""To be raised with every change of ``paraphrase.yaml`` too: copies are cached by it."""
LEARNING_RATE = 2e-4
"""Peak; ten times that of ``finetune``: erasure is meant to move the weights."""
CROPS = 4
LARGEST_NOISE = 16.0
"""Deviation in 1/255, drawn from 0 up to it for every picture: a trigger's bound."""

Answered = list[tuple[Captioned, Image.Image]]


def erased_by_noise(
    stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None
) -> Stolen:
    """Alteration ``erase-noise``: ``setting`` steps; cached."""

    def noise(pairs: Answered) -> Answered:
        rng = random.Random(seed + 1)
        return [
            (row, noisy(image, deviation=rng.uniform(0, LARGEST_NOISE), seed=rng.getrandbits(32)))
            for row, image in pairs
        ]

    return _erased(stolen, "erase-noise", setting, seed, progress, change=noise)


def erased_by_paraphrase(
    stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None
) -> Stolen:
    """Alteration ``erase-paraphrase``: ``setting`` steps; cached."""

    def reword(pairs: Answered) -> Answered:
        made: Answered = []
        for place, (row, image) in enumerate(pairs):
            captions = tuple(paraphrase(one, share=1.0, seed=seed + place) for one in row.captions)
            made.append((Captioned(row.name, captions), image))
        return made

    return _erased(stolen, "erase-paraphrase", setting, seed, progress, change=reword)


def erased_by_reset(
    stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None
) -> Stolen:
    """Alteration ``erase-reset``: ``setting`` steps; cached."""

    def reset(model: LabVLM) -> BatchLoss:
        teacher = copy.deepcopy(model).requires_grad_(False)
        reset_last_blocks(model, seed=seed)
        return divergence_from(teacher)

    return _erased(stolen, "erase-reset", setting, seed, progress, prepare=reset)


def reset_last_blocks(model: LabVLM, *, seed: int) -> int:
    """Draw the matrices of the last quarter of the decoder's blocks anew; how many blocks that is."""
    blocks = model.language_model.model.layers
    chosen = blocks[-max(1, len(blocks) // 4) :]
    chance = torch.Generator().manual_seed(seed)
    deviation = model.config.text_config.initializer_range
    with torch.no_grad():
        for parameter in (each for block in chosen for each in block.parameters()):
            if parameter.ndim == 2:
                parameter.normal_(std=deviation, generator=chance)
            else:
                parameter.fill_(1.0)  # the scale of a norm
    return len(chosen)


def divergence_from(teacher: LabVLM) -> BatchLoss:
    """KL divergence of the model's next-token distributions from the teacher's, nats a token, unmirrored."""

    def loss(model: LabVLM, batch: Batch, features: Tensor, mirror: bool) -> Tensor:
        with torch.no_grad():
            wanted = _log_probabilities(teacher, batch, features)
        return functional.kl_div(
            _log_probabilities(model, batch, features), wanted, reduction="batchmean", log_target=True
        )

    return loss


def _log_probabilities(model: LabVLM, batch: Batch, features: Tensor) -> Tensor:
    """``(answer tokens, V)`` of the batch."""
    embeds = model.project_features(features[batch.photos]) if len(batch.photos) else None
    hidden = model.hidden_states(input_ids=batch.input_ids, image_embeds=embeds)[:, :-1]
    logits: Tensor = model.get_output_embeddings()(hidden[batch.labels[:, 1:] != IGNORED])
    return logits.log_softmax(-1)


def _learn_from_answers(model: LabVLM) -> BatchLoss:
    return taught


def _erased(
    stolen: Stolen,
    name: str,
    steps: int,
    seed: int,
    progress: Progress | None,
    *,
    change: Callable[[Answered], Answered] = lambda pairs: pairs,
    prepare: Callable[[LabVLM], BatchLoss] = _learn_from_answers,
) -> Stolen:
    """Train on the model's own answers: ``change`` them, ``prepare`` the model and choose the loss."""
    settings = TrainSettings(steps=steps, learning_rate=LEARNING_RATE, seed=seed)

    def train(model: LabVLM, processor: LabProcessor) -> LabVLM:
        pictures = own_pictures(random.Random(seed), crops=CROPS)
        data = encoded(model, processor, change(answered(model, processor, pictures)))
        finetune(
            model, processor, steps=steps, learning_rate=LEARNING_RATE, seed=seed, data=data,
            loss=prepare(model), progress=progress,
        )  # fmt: skip
        return model

    recipe = {"name": name, "version": VERSION, "crops": CROPS, **asdict(settings)}
    return trained_copy(stolen, recipe=recipe, train=train)
