"""A rival's triggers put to a model, whatever their kind: what a benchmark and an evaluation call."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from PIL import Image

from sif_offline.baselines.base import BaselineError, Forged, Target
from sif_offline.baselines.borrowing import model_of, processor_of
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
        said = TextPath(adapter).answers([sent[row].words for row in alone])
        answers |= dict(zip(alone, said, strict=True))
    return [answers[row] for row in range(len(sent))]


def deployed(adapter: VLMAdapter, weights: bytes | None) -> AbstractContextManager[None]:
    """The owner as it is deployed and stolen: merged with a rival's weights, where it makes any.

    Args:
        adapter: the owner.
        weights: of ``Forged`` or ``BaselinePack.weights_bytes``.
    """
    return nullcontext() if weights is None else merged(adapter, weights)


def write_deployed(adapter: VLMAdapter, pack: BaselinePack, out: Path) -> None:
    """The owner merged with a pack's weights, as a checkpoint that ``load_adapter`` and a thief can read.

    Args:
        adapter: the owner that the pack was forged for.
        pack: of the kind ``training``, read from disk.
        out: directory; must not exist, or be empty.

    Raises:
        BaselineError: another model, or ``out`` is taken.
        PackError: a pack without weights, or they were changed.
    """
    weights = pack.weights_bytes()
    if adapter.weights_sha256 != pack.owner.weights_sha256:
        raise BaselineError(f"{adapter.name}: pack {pack.pack_id} was forged for other weights")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise BaselineError(f"{out}: exists already")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch, merged(adapter, weights):
        model_of(adapter).save_pretrained(Path(scratch) / "model")
        processor_of(adapter).save_pretrained(Path(scratch) / "model")
        os.replace(Path(scratch) / "model", out)
