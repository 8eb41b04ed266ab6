"""Teacher texts: the owner's model decoding with a watermark. Ids stay ids, never re-tokenised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from sif_offline.fingerprint.errors import SifError
from sif_offline.forging.decoding import forced_rules
from sif_offline.forging.pixels import pixel_tensor
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.similarity import similarities
from sif_offline.models.base import VLMAdapter


class TeacherError(SifError):
    """A photo to which the watermarked owner answers nothing at all."""


@dataclass(frozen=True)
class TeacherText:
    """One draw.

    Args:
        ids: response ids without special ids, at least one.
        green_types, types: distinct ids, green and all.
        z: (green - types gamma) / sqrt(types gamma (1 - gamma)).
        log_likelihood: mean nats a token under the owner without watermark, on the clean photo; at most 0.
        similarity: cosine of its meaning to the owner's own greedy answer to the clean photo, in [-1, 1];
            None where the gate does not ask.
        passed: whether the quality gate let it through.
    """

    ids: tuple[int, ...]
    green_types: int
    types: int
    z: float
    log_likelihood: float
    similarity: float | None
    passed: bool


class GreenBias(LogitsProcessor):  # type: ignore[misc] # transformers is untyped
    """Adds ``delta`` to each row's own green ids (Unigram, arXiv 2306.17439).

    Args:
        green: ``(batch, V)`` bool.
        delta: nats.
        min_p: ids less likely than this share of the likeliest are barred before the bias, so that every word
            of the teacher is one that the owner might say; 0 bars none.
        end_ids: take the bias as well: where a list happens to call them red, a text would run on to its
            limit.
    """

    def __init__(
        self, green: Tensor, *, delta: float, min_p: float = 0.0, end_ids: frozenset[int] = frozenset()
    ) -> None:
        self.bias = green.float() * delta
        self.bias[:, sorted(end_ids)] = delta
        self.least = math.log(min_p) if min_p > 0 else -math.inf

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``(batch, V)`` scores with the bias; a banned id (-inf) stays banned."""
        barred = scores < scores.amax(dim=-1, keepdim=True) + self.least
        return (scores + self.bias).masked_fill(barred, -math.inf)


class RowSampling(LogitsProcessor):  # type: ignore[misc] # transformers is untyped
    """Sampling as an argmax: adds Gumbel noise to ``scores / temperature``, each row from its own generator.

    So a row's text depends on its seed alone, not on who else is in the batch, and no global state is used.
    Rows with temperature 0 stay greedy.
    """

    def __init__(self, seeds: Sequence[int], *, temperatures: Sequence[float]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperatures = temperatures

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``(batch, V)`` scores whose argmax is a draw of softmax(scores / temperature)."""
        rows = []
        for row, generator, temperature in zip(scores, self.generators, self.temperatures, strict=True):
            if temperature > 0:
                uniform = torch.rand(row.shape, generator=generator, dtype=torch.float64).clamp_min(1e-300)
                row = row.double() / temperature - torch.log(-torch.log(uniform)).to(row.device)
            rows.append(row.to(scores.dtype))
        return torch.stack(rows)


def list_seed(green: NDArray[np.bool_]) -> int:
    """A seed for what is sampled for one trigger: its green list's, ``(V,)``, whoever stands beside it."""
    return int.from_bytes(sha256(green.tobytes()).digest()[:6], "big")


def draw_teachers(
    adapter: VLMAdapter,
    *,
    images: Sequence[Image.Image],
    prompt: str,
    green: Tensor,
    seeds: Sequence[int],
    settings: ForgeSettings,
) -> list[TeacherText]:
    """The best draw for each photo.

    Args:
        adapter: the owner.
        images: canvas-sized RGB photos.
        prompt: the user's words.
        green: ``(photos, V)`` bool.
        seeds: one a photo; draw d uses ``seed * draws + d``.
        settings: the ``teacher_*`` and ``min_*`` knobs.

    Returns:
        One teacher a photo: the highest ``z + naturalness * log-likelihood`` among the draws that passed the
        gate, or among all where none did.

    Raises:
        TeacherError: every draw of a photo is empty.
        SimilarityError: the gate asks for similarity and the sentence encoder is not there.
    """
    draws = settings.teacher_draws
    # all draws in one call: a short batch costs almost as much as a long one
    pictures, lists = [*images] * draws, green.repeat(draws, 1)
    processors = LogitsProcessorList(
        [
            GreenBias(
                lists,
                delta=settings.delta,
                min_p=settings.teacher_min_p,
                end_ids=adapter.rules.end_ids,
            ),
            RowSampling(
                [seed * draws + draw for draw in range(draws) for seed in seeds],
                temperatures=[
                    settings.teacher_temperature if d else 0.0 for d in range(draws) for _ in seeds
                ],
            ),
        ]
    )
    responses = adapter.generate(
        pictures, prompt, processors=processors, max_new_tokens=settings.teacher_tokens or None
    )
    alike = _similarities(adapter, images, prompt, responses) if settings.min_similarity > -1 else None
    described = _describe(adapter, pictures, prompt, responses, lists, alike, settings)
    best: list[TeacherText | None] = [None] * len(images)
    for place, teacher in enumerate(described):
        best[place % len(images)] = _better(best[place % len(images)], teacher, settings)
    missing = [place for place, teacher in enumerate(best) if teacher is None]
    if missing:
        raise TeacherError(f"{adapter.name}: says nothing about photo {missing[0] + 1} of the batch")
    return [teacher for teacher in best if teacher is not None]


def _better(old: TeacherText | None, new: TeacherText | None, settings: ForgeSettings) -> TeacherText | None:
    if old is None or new is None:
        return old or new

    def rank(teacher: TeacherText) -> tuple[bool, float]:
        return teacher.passed, teacher.z + settings.teacher_naturalness * teacher.log_likelihood

    return new if rank(new) > rank(old) else old


def _similarities(
    adapter: VLMAdapter, images: Sequence[Image.Image], prompt: str, responses: Sequence[Sequence[int]]
) -> list[float]:
    """Of every response to the greedy answer to its photo; responses stand draw by draw."""
    clean = [adapter.text(ids) for ids in adapter.generate(images, prompt)]
    texts = [adapter.text(ids) for ids in responses]
    return similarities(texts, clean * (len(responses) // len(images)))


def _describe(
    adapter: VLMAdapter,
    images: Sequence[Image.Image],
    prompt: str,
    responses: Sequence[Sequence[int]],
    green: Tensor,
    alike: Sequence[float] | None,
    settings: ForgeSettings,
) -> list[TeacherText | None]:
    likelihoods = log_likelihoods(adapter, images=images, prompt=prompt, responses=responses)
    return [
        _describe_one(ids, green[row], likelihoods[row], None if alike is None else alike[row], settings)
        if ids
        else None
        for row, ids in enumerate(responses)
    ]


def _describe_one(
    ids: Sequence[int],
    green: Tensor,
    log_likelihood: float,
    similarity: float | None,
    settings: ForgeSettings,
) -> TeacherText:
    types = sorted(set(ids))
    greens = int(green[types].sum())
    gamma = settings.gamma
    z = (greens - len(types) * gamma) / (len(types) * gamma * (1 - gamma)) ** 0.5
    passed = (
        len(ids) >= settings.min_tokens
        and len(types) >= settings.min_types
        and len(types) >= settings.min_distinct * len(ids)
        and (similarity is None or similarity >= settings.min_similarity)
    )
    return TeacherText(
        ids=tuple(ids),
        green_types=greens,
        types=len(types),
        z=z,
        log_likelihood=log_likelihood,
        similarity=similarity,
        passed=passed,
    )


@torch.no_grad()
def log_likelihoods(
    adapter: VLMAdapter, *, images: Sequence[Image.Image], prompt: str, responses: Sequence[Sequence[int]]
) -> list[float]:
    """Mean log-likelihood of each response under the decoding rules, nats a token; 0 for an empty one."""
    length = max((len(ids) for ids in responses), default=0)
    if length == 0:
        return [0.0] * len(responses)
    pixels = pixel_tensor(images).to(adapter.device)
    height, width = pixels.shape[-2:]
    prompt_ids = adapter.prompt_ids(prompt, size=(height, width))
    padded = pad_right(responses, length=length, device=adapter.device)
    rules = forced_rules(
        adapter.rules,
        prompt_ids=prompt_ids,
        responses=responses,
        length=length,
        vocab_size=adapter.vocab_size,
    )
    logits = rules(adapter.response_logits(adapter.encode_images(pixels), prompt_ids, padded))
    chosen = logits.log_softmax(-1).gather(-1, padded[..., None]).squeeze(-1)
    return [float(chosen[row, : len(ids)].mean()) if ids else 0.0 for row, ids in enumerate(responses)]


def pad_right(responses: Sequence[Sequence[int]], *, length: int, device: torch.device) -> Tensor:
    """``(batch, length)`` int64, filled with a response's last id: never an image placeholder."""
    rows = [[*ids, *[ids[-1] if ids else 0] * (length - len(ids))] for ids in responses]
    return torch.tensor(rows, dtype=torch.int64, device=device)
