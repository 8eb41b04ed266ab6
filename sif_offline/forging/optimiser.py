"""The search along the gradient on the pixel grid, several triggers a step.

x' stays within eps of the photo and within 0 .. 255. The model always sees whole pixel values (the iterate
rounded, gradient straight through), so that what is optimised is what the PNG will hold. How a gradient moves
the picture is in :mod:`sif_offline.forging.search`, what may happen to a picture on its way in
:mod:`sif_offline.forging.transport`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import LogitsProcessorList

from sif_offline.forging import objectives, robustness
from sif_offline.forging.decoding import ForcedRules, forced_rules, no_rules
from sif_offline.forging.parts import parts_of, put_together
from sif_offline.forging.pixels import to_image
from sif_offline.forging.search import make_rule, normalised, smoothed, step_length
from sif_offline.forging.settings import ForgeSettings, SettingsError
from sif_offline.forging.teacher import RowSampling, list_seed, pad_right
from sif_offline.forging.transport import transport_at
from sif_offline.models.base import ImageFeatures, VLMAdapter


@dataclass(frozen=True)
class Best:
    """The iterate chosen for one trigger: ``(3, height, width)`` uint8, its selection score and step."""

    pixels: Tensor
    score: float
    step: int


@dataclass(frozen=True)
class Step:
    """Progress: step number from 1, of how many, and the batch's mean losses in nats."""

    number: int
    total: int
    watermark: float
    cross_entropy: float
    fallback_share: float

    def describe(self) -> str:
        """For people."""
        return f"watermark {self.watermark:.2f}, story {self.cross_entropy:.2f}"


class Batch:
    """The loss of several triggers against their teachers, and its gradient.

    Args:
        adapter: the owner.
        prompt: the user's words, the same for the batch.
        teachers: response ids, a list a trigger.
        green: ``(batch, V)`` bool.
        settings: of the run.
        answers: what the owner itself says at present, a list a trigger, none of them empty; they bear the
            watermark loss alone, with ``on_policy_weight`` of the whole.
    """

    def __init__(
        self,
        adapter: VLMAdapter,
        *,
        prompt: str,
        teachers: Sequence[Sequence[int]],
        green: Tensor,
        settings: ForgeSettings,
        answers: Sequence[Sequence[int]] = (),
    ) -> None:
        self.adapter = adapter
        self.settings = settings
        self.prompt = prompt
        self.teachers = teachers
        self.lists = green.to(adapter.device)
        texts = [*teachers, *answers]
        self.copies = len(texts) // len(teachers)
        self.green = self.lists.repeat(self.copies, 1)
        self.prompt_ids = adapter.prompt_ids(prompt)
        self.texts, self.length = texts, max(len(ids) for ids in texts)
        self.response_ids = pad_right(texts, length=self.length, device=adapter.device)
        lengths = torch.tensor([len(ids) for ids in texts], device=adapter.device)
        self.is_teacher = torch.arange(len(texts), device=adapter.device) < len(teachers)
        self.weights = objectives.position_weights(lengths, total=self.length)
        self.layers = chosen_layers(adapter, settings) if settings.rfo else []
        self.last_drifts: list[Tensor] = []
        self.parts = parts_of(self.longest(), device=adapter.device)
        self.members = [self._part(places) for places in self.parts] if len(self.parts) > 1 else []

    def longest(self) -> list[int]:
        """Tokens of the longest of each trigger's texts."""
        count = len(self.teachers)
        return [max(len(ids) for ids in self.texts[place::count]) for place in range(count)]

    def _part(self, places: Sequence[int]) -> "Batch":
        count = len(self.teachers)
        return Batch(
            self.adapter,
            prompt=self.prompt,
            teachers=[self.teachers[place] for place in places],
            green=self.lists[list(places)],
            settings=self.settings,
            answers=[self.texts[copy * count + place] for copy in range(1, self.copies) for place in places],
        )

    @cached_property
    def rules(self) -> ForcedRules:
        """The model's decoding rules at every position, where the loss is to see them."""
        if not self.settings.decoding_in_loss:
            return no_rules(self.adapter.device)
        return forced_rules(
            self.adapter.rules,
            prompt_ids=self.prompt_ids,
            responses=self.texts,
            length=self.length,
            vocab_size=self.adapter.vocab_size,
        )

    def losses(self, logits: Tensor) -> objectives.Losses:
        """``(batch, T, V)`` raw logits to the weighted losses of each trigger."""
        s = self.settings
        logits = self.rules(logits)
        per_id, fallback = objectives.watermark_loss(logits, self.green, top_k=s.top_k)
        watermark = (objectives.floored(per_id, floor=s.floor) * self.weights).sum(dim=-1)
        story = objectives.floored(objectives.cross_entropy(logits, self.response_ids), floor=s.floor)
        entropy = (story * self.weights).sum(dim=-1)
        total = s.weight_ce * entropy
        if s.weight_wm:  # without it the green list may be empty, and the loss infinite
            total = total + s.weight_wm * watermark
        if self.copies > 1:
            own = s.on_policy_weight
            total = torch.where(self.is_teacher, (1 - own) * total, own * s.weight_wm * watermark)
        return objectives.Losses(total, watermark, entropy, (fallback * self.weights).sum(dim=-1))

    def with_answers(self, answers: Sequence[Sequence[int]]) -> "Batch":
        """The same batch with the owner's present answers; a teacher stands in for an empty one."""
        return Batch(
            self.adapter,
            prompt=self.prompt,
            teachers=self.teachers,
            green=self.lists,
            settings=self.settings,
            answers=[own or teacher for own, teacher in zip(answers, self.teachers, strict=True)],
        )

    def present_answers(self, pixels: Tensor, *, step: int) -> list[list[int]]:
        """What the owner says now: greedily, or sampled by each trigger's own chance.

        Args:
            pixels: ``(batch, 3, height, width)`` uint8.
            step: draws anew at every step.
        """
        temperature = self.settings.on_policy_temperature
        sampling = LogitsProcessorList()
        if temperature:
            seeds = [list_seed(green) + step for green in self.lists.cpu().numpy()]
            sampling.append(RowSampling(seeds, temperatures=[temperature] * len(seeds)))
        images = [to_image(picture) for picture in pixels]
        return self.adapter.generate(images, self.prompt, processors=sampling or None)

    def on(self, adapter: VLMAdapter) -> "Batch":
        """The same batch against another copy of the owner, without its present answers."""
        return Batch(
            adapter,
            prompt=self.prompt,
            teachers=self.teachers,
            green=self.lists,
            settings=self.settings,
        )

    def gradient(self, pixels: Tensor) -> tuple[Tensor, objectives.Losses]:
        """d loss / d pixels for each trigger.

        With RFO the picture is encoded once: the first pass asks for gradients of the decoder's states alone,
        the second goes back to the pixels. With ``rfo_reuse`` that second pass also brings the drift of the
        next step, which then needs no first pass.

        Args:
            pixels: ``(batch, 3, height, width)`` float32 in 0 .. 255.

        Returns:
            ``(batch, 3, height, width)`` float32, and the losses at the point of the gradient.
        """
        if self.members:
            found = [
                part.gradient(pixels[places]) for part, places in zip(self.members, self.parts, strict=True)
            ]
            gradients, losses = zip(*found, strict=True)
            return put_together(gradients, self.parts), objectives.Losses(
                *(put_together(kind, self.parts, copies=self.copies) for kind in zip(*losses, strict=True))
            )
        s = self.settings
        pixels = pixels.detach().requires_grad_()
        kind = self.adapter.device.type
        with torch.enable_grad(), torch.autocast(kind, dtype=torch.bfloat16, enabled=s.autocast):
            features = self.adapter.encode_images(pixels).repeated(self.copies)
            drifts = (self.last_drifts or self._drifts(features)) if s.rfo else []
            with (
                robustness.captured_states(self.layers) as states,
                robustness.drifted_states(self.layers, drifts),
            ):
                logits = self.adapter.response_logits(features, self.prompt_ids, self.response_ids)
        with torch.enable_grad():
            losses = self.losses(logits)
            wanted = [pixels, *states] if s.rfo_reuse else [pixels]
            gradient, *slopes = torch.autograd.grad(losses.total.sum(), wanted)
        if slopes:
            self.last_drifts = robustness.drifts_of(slopes, rho=s.rho)
        return gradient.float(), losses

    def _drifts(self, features: ImageFeatures) -> list[Tensor]:
        leaf = features.leaf()
        with robustness.captured_states(self.layers) as states:
            logits = self.adapter.response_logits(leaf, self.prompt_ids, self.response_ids)
        return robustness.worst_drift(self.losses(logits).total.sum(), states, rho=self.settings.rho)


def chosen_layers(adapter: VLMAdapter, settings: ForgeSettings) -> list[nn.Module]:
    """The decoder layers that drift: ``rfo_layers`` by number, or every ``rfo_every``-th from the first.

    Raises:
        SettingsError: a number that the model has no layer for.
    """
    layers = list(adapter.decoder_layers())
    if not settings.rfo_layers:
        return layers[:: settings.rfo_every]
    if beyond := [number for number in settings.rfo_layers if number >= len(layers)]:
        raise SettingsError(
            f"setting rfo_layers: {beyond[0]} of {adapter.name}'s layers 0 .. {len(layers) - 1}"
        )
    return [layers[number] for number in sorted(set(settings.rfo_layers))]


def optimise(
    batch: Batch,
    *,
    clean: Tensor,
    judge: Callable[[Tensor], Sequence[float]],
    on_step: Callable[[Step], None] = lambda step: None,
    copies: Sequence[VLMAdapter] = (),
) -> list[Best]:
    """Search for the triggers of one batch.

    Args:
        batch: teachers, green lists and model.
        clean: ``(batch, 3, height, width)`` uint8.
        judge: ``(batch, 3, height, width)`` uint8 to a selection score each; higher is better.
        on_step: called after every step.
        copies: of the owner, whose gradients take turns with its own or join it, by ``ensemble_mode``.

    Returns:
        For each trigger the judged iterate with the highest score, the later one on a tie; the first that
        reached ``stop_at`` where that is set. The search ends early once all of the batch have.
    """
    s = batch.settings
    rule = make_rule(s, clean.to(batch.adapter.device).float())
    batches = [batch, *(batch.on(copy) for copy in copies)]
    best: list[Best | None] = [None] * len(clean)
    for number in range(1, s.steps + 1):
        if s.on_policy_every and number > 1 and (number - 1) % s.on_policy_every == 0:
            answers = batch.present_answers(rule.picture().round().to(torch.uint8), step=number)
            batches = [member.with_answers(answers) for member in batches]
        alternate = s.ensemble_mode == "alternate"
        turn = [batches[(number - 1) % len(batches)]] if alternate else batches
        gradient, losses = _expected_gradient(turn, rule.picture().round(), step=number)
        rule.step(smoothed(gradient, sigma=s.smoothing), length=step_length(s, number))
        on_step(
            Step(
                number=number,
                total=s.steps,
                watermark=float(losses.watermark.detach()[batches[0].is_teacher].mean()),
                cross_entropy=float(losses.cross_entropy.detach()[batches[0].is_teacher].mean()),
                fallback_share=float(losses.fallback_share[batches[0].is_teacher].mean()),
            )
        )
        last = number == s.steps
        if last or (number >= s.judge_from * s.steps and (s.steps - number) % s.judge_every == 0):
            pixels = rule.picture().round().to(torch.uint8).cpu()
            for row, score in enumerate(judge(pixels)):
                best[row] = _better(best[row], Best(pixels[row].clone(), float(score), number), s)
            if all(_reached(held, s) for held in best):
                break
    return [found for found in best if found is not None]


def _expected_gradient(
    batches: Sequence[Batch], picture: Tensor, *, step: int
) -> tuple[Tensor, objectives.Losses]:
    """The sum of the members' gradients through the step's transform, and the first member's losses."""
    transform = transport_at(batches[0].settings, step)
    picture = picture.detach().requires_grad_(transform is not None)
    with torch.enable_grad():
        seen = picture if transform is None else transform(picture)
    found = [batch.gradient(seen) for batch in batches]
    total = torch.stack([normalised(gradient) for gradient, _ in found]).sum(dim=0)
    if transform is not None:
        (total,) = torch.autograd.grad(seen, picture, total)
    return total, found[0][1]


def _better(held: Best | None, new: Best, settings: ForgeSettings) -> Best:
    """By score, the later one on a tie. What reached the mark stays, so that neighbours do not matter."""
    if held is None:
        return new
    return new if new.score >= held.score and not _reached(held, settings) else held


def _reached(held: Best | None, settings: ForgeSettings) -> bool:
    return held is not None and settings.stop_at is not None and held.score >= settings.stop_at
