"""Training turns, tokenised and packed into batches of like length."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sif_offline.lab.data import Captioned
from sif_offline.lab.instructions import make_turn
from sif_offline.lab.processing import EOS, IMAGE, LabProcessor

IGNORED = -100
POOL_BATCHES = 16


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences (no mask: causal attention never looks right) and whose photos they show."""

    input_ids: Tensor
    labels: Tensor
    photos: Tensor


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
