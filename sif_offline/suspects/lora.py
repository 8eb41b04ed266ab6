"""LoRA on the pirate's own data, merged into the weights afterwards (Hu et al. 2021, arXiv 2106.09685)."""

import warnings
from dataclasses import asdict

import torch

from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.suspects.base import Progress, Stolen
from sif_offline.suspects.cache import trained_copy
from sif_offline.suspects.own_data import OwnData, build_own_data
from sif_offline.suspects.quiet import quiet_bitsandbytes
from sif_offline.suspects.training import TrainSettings, train_on

VERSION = 1
LEARNING_RATE = 2e-4
"""Peak; the value of the LoRA and QLoRA papers."""
RANK = 16
# Every linear layer of the decoder's blocks, as QLoRA found best (Dettmers et al. 2023, arXiv 2305.14314).
TARGETS = r"language_model\.model\.layers\..*_proj"


def lora_merge(
    model: LabVLM,
    processor: LabProcessor,
    *,
    steps: int,
    rank: int = RANK,
    learning_rate: float = LEARNING_RATE,
    batch_size: int = 8,
    seed: int = 0,
    data: OwnData | None = None,
    progress: Progress | None = None,
) -> LabVLM:
    """Train low-rank additions and merge them: a model of the same class and shape. ``model`` is used up.

    Args:
        model: float32, on the CPU.
        processor: the model's own.
        steps: of AdamW, at least 1.
        rank: of each addition; its scale alpha is twice the rank.
        learning_rate: peak.
        batch_size: turns a step.
        seed: of the data, its order and the first factors.
        data: what to train on; :func:`build_own_data` unless given.
        progress: called after each step.
    """
    quiet_bitsandbytes()
    from peft import LoraConfig, get_peft_model

    settings = TrainSettings(steps=steps, learning_rate=learning_rate, batch_size=batch_size, seed=seed)
    data = data or build_own_data(model, processor, seed=seed)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 for an attribute by its former name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS))
    trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    wrapped.train()
    train_on(model, processor, data, parameters=trained, settings=settings, progress=progress)
    merged: LabVLM = wrapped.merge_and_unload(safe_merge=True)
    merged.requires_grad_(False).eval()
    return merged


def lora_merged(stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``lora``: ``setting`` steps; cached."""
    settings = TrainSettings(steps=setting, learning_rate=LEARNING_RATE, seed=seed)

    def train(model: LabVLM, processor: LabProcessor) -> LabVLM:
        return lora_merge(model, processor, steps=setting, seed=seed, progress=progress)

    recipe = {"name": "lora", "version": VERSION, "rank": RANK, **asdict(settings)}
    return trained_copy(stolen, recipe=recipe, train=train)
