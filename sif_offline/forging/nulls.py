"""What unrelated models answer to triggers, of a pack or of somebody's evidence bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sif_offline.fingerprint.evidence.bundle import Material
from sif_offline.fingerprint.evidence.commitment import Head
from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.pack import FingerprintPack
from sif_offline.fingerprint.response import ResponseScore
from sif_offline.fingerprint.scoring import TextScorer
from sif_offline.forging.workdir import ForgeError
from sif_offline.models.base import VLMAdapter


class Question(NamedTuple):
    """A trigger with the bytes that are sent."""

    trigger_id: str
    prompt: str
    image: bytes


@dataclass(frozen=True)
class Questions:
    """What a null model is asked.

    Attributes:
        name: of the pack, for messages.
        rows: the triggers.
        owner_weights_sha256: of the owner, who is no null model.
        max_new_tokens: length of an answer.
    """

    name: str
    rows: tuple[Question, ...]
    owner_weights_sha256: str
    max_new_tokens: int

    @classmethod
    def of_pack(cls, pack: FingerprintPack) -> "Questions":
        """All triggers of a pack."""
        rows = tuple(Question(row.id, row.prompt, pack.trigger_bytes(row)) for row in pack.triggers)
        return cls(pack.pack_id, rows, pack.owner.weights_sha256, pack.decoding.max_new_tokens)

    @classmethod
    def of_material(cls, material: Material, *, head: Head) -> "Questions":
        """The triggers that a bundle discloses."""
        rows = tuple(
            Question(item.leaf.trigger_id, item.leaf.prompt, material.pictures[item.leaf.trigger_id][0])
            for item in material.disclosures
        )
        return cls(head.pack_id, rows, head.owner.weights_sha256, head.decoding.max_new_tokens)


def null_scores(
    adapter: VLMAdapter,
    scorer: TextScorer,
    questions: Questions,
    *,
    batch_size: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, ResponseScore]:
    """Greedy answers of one null model to all triggers, scored under their keys.

    Args:
        adapter: an unrelated model.
        scorer: with the triggers' keys.
        questions: the triggers.
        batch_size: pictures at once.
        on_progress: called with (triggers done, triggers).

    Returns:
        Trigger id -> score, in the order of the questions.

    Raises:
        ForgeError: the model is the owner.
    """
    if adapter.weights_sha256 == questions.owner_weights_sha256:
        raise ForgeError(f"{adapter.name}: is the owner of pack {questions.name}, not an unrelated model")
    scores: dict[str, ResponseScore] = {}
    for prompt in dict.fromkeys(row.prompt for row in questions.rows):
        rows = [row for row in questions.rows if row.prompt == prompt]
        for batch in _batches(rows, batch_size):
            images = [decode_image(row.image, name=row.trigger_id) for row in batch]
            answers = adapter.generate(images, prompt, max_new_tokens=questions.max_new_tokens)
            for row, ids in zip(batch, answers, strict=True):
                scores[row.trigger_id] = scorer.score(row.trigger_id, adapter.text(ids))
            on_progress(len(scores), len(questions.rows))
    return {row.trigger_id: scores[row.trigger_id] for row in questions.rows}


def _batches(rows: Sequence[Question], size: int) -> list[Sequence[Question]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
