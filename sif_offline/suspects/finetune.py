"""Full fine-tuning on the pirate's own data.

Projector and decoder are trained, the vision encoder stays frozen, as in the second stage of LLaVA
(Liu et al. 2023, arXiv 2304.08485).
"""

from dataclasses import asdict

from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.suspects.base import Progress, Stolen
from sif_offline.suspects.cache import trained_copy
from sif_offline.suspects.own_data import OwnData, build_own_data
from sif_offline.suspects.training import BatchLoss, TrainSettings, taught, train_on

VERSION = 1
LEARNING_RATE = 2e-5
"""Peak; LLaVA's for this stage."""


def finetune(
    model: LabVLM,
    processor: LabProcessor,
    *,
    steps: int,
    learning_rate: float = LEARNING_RATE,
    batch_size: int = 8,
    seed: int = 0,
    data: OwnData | None = None,
    loss: BatchLoss = taught,
    progress: Progress | None = None,
) -> list[float]:
    """Train all weights of ``model`` but the encoder's, in place.

    Args:
        model: float32, on the CPU.
        processor: the model's own.
        steps: of AdamW, at least 1.
        learning_rate: peak.
        batch_size: turns a step.
        seed: of the data, its order and its crops: the same seed gives the same weights on the same machine.
        data: what to train on; :func:`build_own_data` unless given.
        loss: of a batch; how likely its answers are unless given.
        progress: called after each step.

    Returns:
        The loss of each step, in nats a token.
    """
    settings = TrainSettings(steps=steps, learning_rate=learning_rate, batch_size=batch_size, seed=seed)
    data = data or build_own_data(model, processor, seed=seed)
    model.requires_grad_(True)
    model.vision_encoder.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()
    losses = train_on(
        model, processor, data, parameters=trained, settings=settings, loss=loss, progress=progress
    )
    model.requires_grad_(False).eval()
    return losses


def finetuned(stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``finetune``: ``setting`` steps; cached."""
    settings = TrainSettings(steps=setting, learning_rate=LEARNING_RATE, seed=seed)

    def train(model: LabVLM, processor: LabProcessor) -> LabVLM:
        finetune(model, processor, steps=setting, seed=seed, progress=progress)
        return model

    return trained_copy(
        stolen, recipe={"name": "finetune", "version": VERSION, **asdict(settings)}, train=train
    )
