"""What unrelated models answer to triggers, of a pack or of somebody's evidence bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sif_offline.fingerprint.calibration import TriggerAnswers
from sif_offline.fingerprint.evidence.bundle import Material
from sif_offline.fingerprint.evidence.commitment import Head
from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.pack import FingerprintPack
from sif_offline.fingerprint.scoring import TextScorer
from sif_offline.forging.workdir import ForgeError
from sif_offline.models.base import VLMAdapter


class Question(NamedTuple):
    """A trigger with the bytes that are sent, under one wording of its prompt."""

    trigger_id: str
    prompt: str
    image: bytes


@dataclass(frozen=True)
class Questions:
    """What a null model is asked.

    Attributes:
        name: of the pack, for messages.
        rows: the triggers, each under every wording that may be sent; its own wording first.
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
        rows = tuple(
            Question(row.id, wording, image)
            for row in pack.triggers
            for image in (pack.trigger_bytes(row),)
            for wording in row.wordings
        )
        return cls(pack.pack_id, rows, pack.owner.weights_sha256, pack.decoding.max_new_tokens)

    @classmethod
    def of_material(cls, material: Material, *, head: Head) -> "Questions":
        """The triggers that a bundle discloses."""
        rows = tuple(
            Question(item.leaf.trigger_id, wording, material.pictures[item.leaf.trigger_id][0])
            for item in material.disclosures
            for wording in item.leaf.wordings
        )
        return cls(head.pack_id, rows, head.owner.weights_sha256, head.decoding.max_new_tokens)


def null_scores(
    adapter: VLMAdapter,
    scorer: TextScorer,
    questions: Questions,
    *,
    batch_size: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, TriggerAnswers]:
    """Greedy answers of one null model to all triggers under all their wordings, scored under their keys.

    Args:
        adapter: an unrelated model.
        scorer: with the triggers' keys.
        questions: the triggers.
        batch_size: pictures at once.
        on_progress: called with (questions done, questions).

    Returns:
        Trigger id -> scores, in the order of the questions.

    Raises:
        ForgeError: the model is the owner.
    """
    if adapter.weights_sha256 == questions.owner_weights_sha256:
        raise ForgeError(f"{adapter.name}: is the owner of pack {questions.name}, not an unrelated model")
    texts = greedy_answers(adapter, questions, batch_size=batch_size, on_progress=on_progress)
    by_trigger: dict[str, dict[str, str]] = {}
    for row, text in zip(questions.rows, texts, strict=True):
        by_trigger.setdefault(row.trigger_id, {})[row.prompt] = text
    return {
        trigger_id: TriggerAnswers(
            {wording: scorer.score(trigger_id, text) for wording, text in worded.items()},
            pooled=scorer.score(trigger_id, list(worded.values())),
        )
        for trigger_id, worded in by_trigger.items()
    }


def greedy_answers(
    adapter: VLMAdapter,
    questions: Questions,
    *,
    batch_size: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """The texts that a model answers, in the order of the questions; arguments as :func:`null_scores`."""
    texts: dict[int, str] = {}
    for prompt in dict.fromkeys(row.prompt for row in questions.rows):
        places = [place for place, row in enumerate(questions.rows) if row.prompt == prompt]
        for batch in _batches(places, batch_size):
            rows = [questions.rows[place] for place in batch]
            images = [decode_image(row.image, name=row.trigger_id) for row in rows]
            answers = adapter.generate(images, prompt, max_new_tokens=questions.max_new_tokens)
            texts |= {place: adapter.text(ids) for place, ids in zip(batch, answers, strict=True)}
            on_progress(len(texts), len(questions.rows))
    return [texts[place] for place in range(len(questions.rows))]


def _batches(places: Sequence[int], size: int) -> list[Sequence[int]]:
    return [places[start : start + size] for start in range(0, len(places), size)]
