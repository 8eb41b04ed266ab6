"""What unrelated models answer to a pack's triggers."""

from collections.abc import Callable

from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.response import ResponseScore
from sif_offline.fingerprint.scoring import PackScorer
from sif_offline.forging.workdir import ForgeError
from sif_offline.models.base import VLMAdapter


def null_scores(
    adapter: VLMAdapter,
    scorer: PackScorer,
    *,
    batch_size: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, ResponseScore]:
    """Greedy answers of one null model to the bytes of all triggers, scored under the pack's keys.

    Args:
        adapter: an unrelated model.
        scorer: of the pack.
        batch_size: pictures at once.
        on_progress: called with (triggers done, triggers).

    Returns:
        Trigger id -> score, in the pack's order.

    Raises:
        ForgeError: the model is the pack's own owner.
    """
    pack = scorer.pack
    if adapter.weights_sha256 == pack.owner.weights_sha256:
        raise ForgeError(f"{adapter.name}: is the owner of pack {pack.pack_id}, not an unrelated model")
    scores: dict[str, ResponseScore] = {}
    for prompt in dict.fromkeys(row.prompt for row in pack.triggers):
        rows = [row for row in pack.triggers if row.prompt == prompt]
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            images = [decode_image(pack.trigger_bytes(row), name=row.file) for row in batch]
            answers = adapter.generate(images, prompt, max_new_tokens=pack.decoding.max_new_tokens)
            for row, ids in zip(batch, answers, strict=True):
                scores[row.id] = scorer.score(row.id, adapter.text(ids))
            on_progress(len(scores), len(pack.triggers))
    return {row.id: scores[row.id] for row in pack.triggers}
