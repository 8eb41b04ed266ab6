"""What a trigger is worth: decoded from the bytes of the PNG, scored as a verifier scores it.

Selection and report are apart: pictures are chosen by answers under some conditions, and the chosen trigger
is then measured again. What chose is named as it is (``greedy``); what chose nothing is named ``fresh:``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LogitsProcessorList

from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.scoring import ResponseScore, score_ids
from sif_offline.forging.copies import KINDS, make_copy
from sif_offline.forging.pixels import png_bytes, to_image
from sif_offline.forging.settings import ForgeSettings, SettingsError
from sif_offline.forging.teacher import RowSampling, list_seed
from sif_offline.forging.transport import jpeg_image, rescaled_image
from sif_offline.models.base import VLMAdapter

FRESH_SEED_OFFSET = 7919
"""Keeps the fresh copies and samples apart from those that selection saw."""


MEASURED = ("jpeg:75", "resize:0.75", "temperature:0.7", "temperature:1")
"""What every report holds beside the greedy answer, the control and the copies."""
MEASURED_COPIES = ("noise", "nf4")


@dataclass(frozen=True)
class Condition:
    """One way in which an answer comes about.

    Args:
        name: as the settings spell it: ``greedy``, ``jpeg:75``, ``nf4``, ...
        model: who answers.
        jpeg: quality that the picture goes through; 0 is none.
        resize: factor that the picture is resized by and back; 1 is none.
        temperature: of sampling; 0 is greedy.
    """

    name: str
    model: VLMAdapter
    jpeg: int = 0
    resize: float = 1.0
    temperature: float = 0.0

    def picture(self, image: Image.Image) -> Image.Image:
        """What the model gets to see of a picture."""
        if self.jpeg:
            image = jpeg_image(image, quality=self.jpeg)
        return image if self.resize == 1 else rescaled_image(image, factor=self.resize)


class Judge:
    """Answers and scores for one owner; perturbed copies are made once.

    Args:
        adapter: the owner.
        settings: of the run.

    Raises:
        SettingsError: a condition that does not exist.
    """

    def __init__(self, adapter: VLMAdapter, settings: ForgeSettings) -> None:
        self.adapter = adapter
        self.settings = settings
        self.tokenizer = Tokenizer.from_str(adapter.tokenizer_json().decode())
        noise, seed = settings.judge_noise, settings.seed
        self.copies = [adapter.perturbed(noise=noise, seed=seed + n) for n in range(settings.judge_copies)]
        self.conditions = [
            Condition("greedy", adapter),
            *(Condition("noise", copied) for copied in self.copies),
            *(
                self._condition(name, seed=seed + len(self.copies) + place)
                for place, name in enumerate(settings.judge_conditions)
            ),
        ]

    def score(self, text: str, *, mask: NDArray[np.bool_], trigger_id: str = "") -> ResponseScore:
        """Distinct types of the text under the owner's tokenizer, special ids left out."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return score_ids(ids, mask=mask, ignore=self.adapter.special_ids, trigger_id=trigger_id)

    def select(self, pixels: Tensor, *, prompt: str, masks: Sequence[NDArray[np.bool_]]) -> list[float]:
        """Mean z over the selection conditions: ``(batch, 3, height, width)`` uint8 to one score each.

        Sampled conditions draw by the trigger's green list, so that all pictures tried for a trigger meet the
        same chance and a trigger does not depend on its neighbours.
        """
        images = [decode_image(png_bytes(to_image(picture)), name="trigger") for picture in pixels]
        seeds = [list_seed(mask) for mask in masks]
        scores = self._under(self.conditions, images, prompt, masks, seeds)
        return [float(np.mean([score.z for score in column])) for column in zip(*scores, strict=True)]

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
            z by condition for each trigger, and the scores of the greedy answers. ``clean`` is the control;
            a condition that took part in selection or gave gradients bears its own name, ``fresh:*`` chose
            nothing.
        """
        images = [decode_image(png, name="trigger") for png in pngs]
        controls = [decode_image(png, name="clean") for png in clean_pngs]
        fresh_seeds = [seed + FRESH_SEED_OFFSET for seed in seeds]
        plain = Condition("greedy", self.adapter)
        (clean,) = self._under([plain], controls, prompt, masks, fresh_seeds)
        measured = [plain, *(self._condition(name) for name in MEASURED)]
        greedy, *others = self._under(measured, images, prompt, masks, fresh_seeds)
        columns = {"greedy": greedy, "clean": clean}
        for name in MEASURED_COPIES:  # made one at a time: a large model leaves no room for all
            copied = self._condition(name, seed=self.settings.seed + FRESH_SEED_OFFSET)
            columns[self._reported(name)] = self._under([copied], images, prompt, masks, fresh_seeds)[0]
        columns |= {self._reported(name): scores for name, scores in zip(MEASURED, others, strict=True)}
        rows = [{name: scores[place].z for name, scores in columns.items()} for place in range(len(images))]
        return rows, greedy

    def _reported(self, name: str) -> str:
        """A copy with noise is always a fresh one; any other condition is fresh unless it had a say."""
        used = {*self.settings.judge_conditions, *self.settings.ensemble} - {"noise"}
        return name.replace(":", "-") if name in used else f"fresh:{name.replace(':', '-')}"

    def _condition(self, name: str, *, seed: int = 0) -> Condition:
        kind, _, value = name.partition(":")
        try:
            if kind == "jpeg" and 1 <= int(value) <= 100:
                return Condition(name, self.adapter, jpeg=int(value))
            if kind == "resize" and float(value) > 0:
                return Condition(name, self.adapter, resize=float(value))
            if kind == "temperature" and float(value) > 0:
                return Condition(name, self.adapter, temperature=float(value))
        except ValueError:
            pass
        if kind in ("jpeg", "resize", "temperature"):
            raise SettingsError(f"condition {name}: {value or 'nothing'} is no value of {kind}")
        if kind not in ("noise", "nf4", "int8"):
            raise SettingsError(f"condition {name}: want jpeg:Q, resize:F, temperature:T or one of {KINDS}")
        copied = make_copy(self.adapter, name, seed=seed, noise=self.settings.judge_noise)
        return Condition(name, copied)

    def _under(
        self,
        conditions: Sequence[Condition],
        images: Sequence[Image.Image],
        prompt: str,
        masks: Sequence[NDArray[np.bool_]],
        seeds: Sequence[int],
    ) -> list[list[ResponseScore]]:
        """A list of scores for each condition, one call a model: a short batch costs almost a long one's."""
        found: dict[int, list[ResponseScore]] = {}
        for model in {id(condition.model): condition.model for condition in conditions}.values():
            places = [place for place, condition in enumerate(conditions) if condition.model is model]
            shown = [conditions[place].picture(image) for place in places for image in images]
            sampled = LogitsProcessorList()
            if any(conditions[place].temperature for place in places):
                temperatures = [conditions[place].temperature for place in places for _ in images]
                draws = [seed + place for place in places for seed in seeds]
                sampled.append(RowSampling(draws, temperatures=temperatures))
            answers = model.generate(shown, prompt, processors=sampled or None)
            lists = [*masks] * len(places)
            scores = [
                self.score(model.text(ids), mask=mask) for ids, mask in zip(answers, lists, strict=True)
            ]
            for number, place in enumerate(places):
                found[place] = scores[number * len(images) : (number + 1) * len(images)]
        return [found[place] for place in range(len(conditions))]
