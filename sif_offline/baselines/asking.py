"""A rival's triggers put to a model, whatever their kind: what a benchmark and an evaluation call."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

from PIL import Image

from sif_offline.baselines.base import Forged, Target
from sif_offline.baselines.lora import merged
from sif_offline.baselines.pack import BaselinePack, BaselineRow
from sif_offline.baselines.textual import TextPath
from sif_offline.fingerprint.images import decode_image
from sif_offline.models.base import VLMAdapter


@dataclass(frozen=True)
class Sent:
    """What a user sends: words, and a picture where the trigger is one."""

    words: str
    image: Image.Image | None = None

    @classmethod
    def of(cls, forged: Forged, target: Target) -> Self:
        """A trigger as its method made it."""
        if forged.prompt is not None:
            return cls(forged.prompt)
        return cls(target.question, decode_image(forged.png or b"", name="trigger"))

    @classmethod
    def trigger(cls, pack: BaselinePack, row: BaselineRow) -> Self:
        """A trigger of a pack. Raises ``PackError``: its file was changed."""
        if row.prompt is not None:
            return cls(row.prompt)
        return cls(row.target.question, decode_image(pack.trigger_bytes(row), name=row.id))

    @classmethod
    def control(cls, pack: BaselinePack, row: BaselineRow) -> Self:
        """The same question without the trigger: with the clean photo, or alone. Raises ``PackError``."""
        if row.prompt is not None:
            return cls(row.target.question)
        return cls(row.target.question, decode_image(pack.clean_bytes(row), name=row.id))


def ask(adapter: VLMAdapter, sent: Sequence[Sent]) -> list[str]:
    """Greedy answers in the order of ``sent``; pictures of one question are asked together.

    Raises:
        BaselineError: words without a picture, and a model that has no such path.
    """
    answers: dict[int, str] = {}
    for words in dict.fromkeys(each.words for each in sent if each.image is not None):
        rows = [(row, s.image) for row, s in enumerate(sent) if s.words == words and s.image is not None]
        found = adapter.generate([image for _, image in rows], words)
        answers |= {row: adapter.text(ids) for (row, _), ids in zip(rows, found, strict=True)}
    alone = [row for row, each in enumerate(sent) if each.image is None]
    if alone:
        answers |= dict(
            zip(alone, TextPath(adapter).answers([sent[row].words for row in alone]), strict=True)
        )
    return [answers[row] for row in range(len(sent))]


def deployed(adapter: VLMAdapter, weights: bytes | None) -> AbstractContextManager[None]:
    """The owner as it is deployed and stolen: merged with a rival's weights, where it makes any.

    Args:
        adapter: the owner.
        weights: of ``Forged`` or ``BaselinePack.weights_bytes``.
    """
    return nullcontext() if weights is None else merged(adapter, weights)
