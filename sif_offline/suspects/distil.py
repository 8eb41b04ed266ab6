"""Distillation into another architecture: a model of other make learns to answer as the stolen one does.

The student begins as a model that the thief came by honestly, of another encoder or width, and is trained on
the stolen model's answers to his own pictures (sequence-level distillation, Kim & Rush 2016, arXiv
1606.07947: their tokenizers differ, so there are no common logits). None of the stolen weights is left.
"""

import random
from dataclasses import asdict

from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.models.digest import weights_digest
from sif_offline.suspects.answered import answered
from sif_offline.suspects.base import Progress, Stolen, SuspectError
from sif_offline.suspects.cache import altered_copy
from sif_offline.suspects.finetune import finetune
from sif_offline.suspects.own_data import encoded, own_pictures
from sif_offline.suspects.training import TrainSettings

VERSION = 1
LEARNING_RATE = 1e-4
"""Peak. At 3e-4 and 300 steps the student learns the few pictures by heart and forgets the others."""
CROPS = 6
"""Random crops of each own picture that the stolen model is asked about."""
STUDENT = "innocent-c"


def distilled(
    stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None, partner: str = STUDENT
) -> Stolen:
    """Alteration ``distil``: ``setting`` steps teach ``partner`` the stolen model's answers; cached.

    Args:
        stolen: the teacher, unquantised.
        setting: steps of AdamW.
        seed: of the crops and the batches.
        progress: called after each step.
        partner: what the student begins as: a lab model or a checkpoint directory.

    Raises:
        SuspectError: a student of the teacher's own architecture.
    """
    settings = TrainSettings(steps=setting, learning_rate=LEARNING_RATE, seed=seed)
    student, its_processor = Stolen.of(partner).load()

    def teach(teacher: LabVLM, processor: LabProcessor) -> tuple[LabVLM, LabProcessor]:
        if _architecture(teacher) == _architecture(student):
            raise SuspectError(f"distil into {partner}: it has the stolen model's own architecture")
        pictures = own_pictures(random.Random(seed), crops=CROPS)
        data = encoded(student, its_processor, answered(teacher, processor, pictures))
        finetune(
            student, its_processor, steps=setting, learning_rate=LEARNING_RATE, seed=seed, data=data,
            progress=progress,
        )  # fmt: skip
        return student, its_processor

    recipe = {
        "name": "distil", "version": VERSION, "crops": CROPS, "student": weights_digest(student),
        **asdict(settings),
    }  # fmt: skip
    return altered_copy(stolen, recipe=recipe, alter=teach)


def _architecture(model: LabVLM) -> tuple[str, int, int, int]:
    text = model.config.text_config
    return model.config.vision_encoder, text.hidden_size, text.num_hidden_layers, text.num_attention_heads
