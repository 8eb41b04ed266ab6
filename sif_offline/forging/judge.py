"""What a trigger is worth: decoded from the bytes of the PNG, scored as a verifier scores it.

Selection and report are apart: iterates are chosen by greedy answers of the owner and of perturbed copies,
and the chosen trigger is then measured again on conditions that chose nothing (another copy, JPEG,
temperature 1).
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LogitsProcessorList

from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.scoring import ResponseScore, score_ids
from sif_offline.forging.pixels import png_bytes, to_image
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.teacher import RowSampling
from sif_offline.models.base import VLMAdapter

FRESH_SEED_OFFSET = 7919
"""Keeps the fresh copies and samples apart from those that selection saw."""


class Judge:
    """Answers and scores for one owner; perturbed copies are made once.

    Args:
        adapter: the owner.
        settings: of the run.
    """

    def __init__(self, adapter: VLMAdapter, settings: ForgeSettings) -> None:
        self.adapter = adapter
        self.settings = settings
        self.tokenizer = Tokenizer.from_str(adapter.tokenizer_json().decode())
        noise, seed = settings.judge_noise, settings.seed
        self.copies = [adapter.perturbed(noise=noise, seed=seed + n) for n in range(settings.judge_copies)]
        self.fresh_copy = adapter.perturbed(noise=noise, seed=seed + FRESH_SEED_OFFSET)

    def score(self, text: str, *, mask: NDArray[np.bool_], trigger_id: str = "") -> ResponseScore:
        """Distinct types of the text under the owner's tokenizer, special ids left out."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return score_ids(ids, mask=mask, ignore=self.adapter.special_ids, trigger_id=trigger_id)

    def select(self, pixels: Tensor, *, prompt: str, masks: Sequence[NDArray[np.bool_]]) -> list[float]:
        """Mean z over the selection conditions: ``(batch, 3, height, width)`` uint8 to one score each."""
        images = [_through_png(to_image(picture)) for picture in pixels]
        total = np.zeros(len(images))
        for model in [self.adapter, *self.copies]:
            total += [score.z for score in self._scores(model, images, prompt, masks)]
        return [float(z) for z in total / (1 + len(self.copies))]

    def measure(
        self,
        pngs: Sequence[bytes],
        clean_pngs: Sequence[bytes],
        *,
        prompt: str,
        masks: Sequence[NDArray[np.bool_]],
        seeds: Sequence[int],
    ) -> tuple[list[dict[str, float]], list[ResponseScore]]:
        """The report on finished triggers.

        Args:
            pngs: the triggers' files.
            clean_pngs: the paired controls' files.
            prompt: the user's words.
            masks: green lists, bool ``(V,)`` each.
            seeds: of the sampled answers, one a trigger.

        Returns:
            z by condition for each trigger (``greedy`` on the owner took part in selection; ``fresh:*`` did
            not; ``clean`` is the control), and the scores of the greedy answers.
        """
        images = [decode_image(png, name="trigger") for png in pngs]
        controls = [decode_image(png, name="clean") for png in clean_pngs]
        through_jpeg = [_through_jpeg(image) for image in images]
        three = self._scores(self.adapter, [*images, *controls, *through_jpeg], prompt, [*masks] * 3)
        n = len(images)
        greedy, clean, jpeg = three[:n], three[n : 2 * n], three[2 * n :]
        sampler = RowSampling([seed + FRESH_SEED_OFFSET for seed in seeds], temperatures=[1.0] * len(images))
        sampled = self._scores(self.adapter, images, prompt, masks, processors=LogitsProcessorList([sampler]))
        columns: Mapping[str, list[ResponseScore]] = {
            "greedy": greedy,
            "clean": clean,
            "fresh:noise": self._scores(self.fresh_copy, images, prompt, masks),
            "fresh:jpeg-75": jpeg,
            "fresh:temperature-1": sampled,
        }
        rows = [{name: scores[place].z for name, scores in columns.items()} for place in range(len(images))]
        return rows, greedy

    def _scores(
        self,
        model: VLMAdapter,
        images: Sequence[Image.Image],
        prompt: str,
        masks: Sequence[NDArray[np.bool_]],
        processors: LogitsProcessorList | None = None,
    ) -> list[ResponseScore]:
        answers = model.generate(images, prompt, processors=processors)
        return [self.score(model.text(ids), mask=mask) for ids, mask in zip(answers, masks, strict=True)]


def _through_png(image: Image.Image) -> Image.Image:
    return decode_image(png_bytes(image), name="trigger")


def _through_jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=75)
    return decode_image(buffer.getvalue(), name="trigger")
