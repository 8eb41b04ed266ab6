"""The search: sign or momentum PGD on the pixel grid, several triggers a step.

x' stays within eps of the photo and within 0 .. 255. The model always sees whole pixel values (the iterate
rounded, gradient straight through), so that what is optimised is what the PNG will hold.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sif_offline.forging import objectives, robustness
from sif_offline.forging.decoding import ForcedRules, forced_rules, used_before
from sif_offline.forging.pixels import to_image
from sif_offline.forging.settings import ForgeSettings
from sif_offline.forging.teacher import pad_right
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
        length = max(len(ids) for ids in texts)
        self.response_ids = pad_right(texts, length=length, device=adapter.device)
        lengths = torch.tensor([len(ids) for ids in texts], device=adapter.device)
        self.is_teacher = torch.arange(len(texts), device=adapter.device) < len(teachers)
        self.weights = objectives.position_weights(
            lengths, total=length, early_weight=settings.early_weight, early_tokens=settings.early_tokens
        )
        self.rules = (
            forced_rules(
                adapter.rules,
                prompt_ids=self.prompt_ids,
                responses=texts,
                length=length,
                vocab_size=adapter.vocab_size,
            )
            if settings.decoding_in_loss
            else ForcedRules(seen=None, banned=None, penalty=1.0)
        )
        self.used = None
        self.watermark_weights = self.weights
        if settings.novel_only:
            used = used_before(texts, length=length, vocab_size=adapter.vocab_size).to(adapter.device)
            novel = ~used.gather(-1, self.response_ids[..., None]).squeeze(-1)
            weights = self.weights * novel
            self.used = used
            self.watermark_weights = weights / weights.sum(dim=-1, keepdim=True)
        layers = list(adapter.decoder_layers())
        self.layers = layers[:: settings.rfo_every]
        self.last_drifts: list[Tensor] = []

    def losses(self, logits: Tensor) -> objectives.Losses:
        """``(batch, T, V)`` raw logits to the weighted losses of each trigger."""
        s = self.settings
        logits = self.rules(logits)
        scored = logits if self.used is None else logits.masked_fill(self.used, -math.inf)
        per_id, fallback = objectives.watermark_loss(scored, self.green, top_k=s.top_k)
        per_id = objectives.floored(per_id, floor=s.floor)
        watermark = (per_id * self.watermark_weights).sum(dim=-1)
        story = objectives.floored(objectives.cross_entropy(logits, self.response_ids), floor=s.floor)
        entropy = (story * self.weights).sum(dim=-1)
        total = s.weight_ce * entropy
        if s.weight_wm:  # without it the green list may be empty, and the loss infinite
            total = total + s.weight_wm * watermark
        if s.weight_margin:
            hinge = objectives.margin_loss(logits, self.response_ids, margin=s.margin)
            total = total + s.weight_margin * (hinge * self.weights).sum(dim=-1)
        if self.copies > 1:
            own = s.on_policy_weight
            total = torch.where(self.is_teacher, (1 - own) * total, own * s.weight_wm * watermark)
        return objectives.Losses(total, watermark, entropy, (fallback * self.watermark_weights).sum(dim=-1))

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
        s = self.settings
        pixels = pixels.detach().requires_grad_()
        kind = self.adapter.device.type
        with torch.enable_grad(), torch.autocast(kind, dtype=torch.bfloat16, enabled=s.autocast):
            features = self.adapter.encode_images(pixels).repeated(self.copies)
            drifts = (self.last_drifts or self._drifts(features)) if s.rfo else []
            layers = self.layers if s.rfo else []
            with robustness.captured_states(layers) as states, robustness.drifted_states(layers, drifts):
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


def optimise(
    batch: Batch,
    *,
    clean: Tensor,
    judge: Callable[[Tensor], Sequence[float]],
    on_step: Callable[[Step], None] = lambda step: None,
) -> list[Best]:
    """Search for the triggers of one batch.

    Args:
        batch: teachers, green lists and model.
        clean: ``(batch, 3, height, width)`` uint8.
        judge: ``(batch, 3, height, width)`` uint8 to a selection score each; higher is better.
        on_step: called after every step.

    Returns:
        For each trigger the judged iterate with the highest score, the later one on a tie.
    """
    s = batch.settings
    photo = clean.to(batch.adapter.device).float()
    moved = torch.zeros_like(photo)
    velocity = torch.zeros_like(photo)
    best: list[Best | None] = [None] * len(clean)
    for number in range(1, s.steps + 1):
        if s.on_policy_every and number > 1 and (number - 1) % s.on_policy_every == 0:
            present = [to_image(picture) for picture in (photo + moved).round().to(torch.uint8)]
            batch = batch.with_answers(batch.adapter.generate(present, batch.prompt))
        gradient, losses = batch.gradient((photo + moved).round())
        # dividing by the mean absolute value lets momentum weigh steps alike, whatever the loss's scale
        scale = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        velocity = s.momentum * velocity + gradient / scale
        progress = (number - 1) / max(1, s.steps - 1)
        alpha = s.alpha + (s.alpha_end - s.alpha) * progress
        moved = (moved - alpha * velocity.sign()).clamp(-s.epsilon, s.epsilon)
        moved = (photo + moved).clamp(0, 255) - photo
        on_step(
            Step(
                number=number,
                total=s.steps,
                watermark=float(losses.watermark.detach()[batch.is_teacher].mean()),
                cross_entropy=float(losses.cross_entropy.detach()[batch.is_teacher].mean()),
                fallback_share=float(losses.fallback_share[batch.is_teacher].mean()),
            )
        )
        last = number == s.steps
        if last or (number >= s.judge_from * s.steps and (s.steps - number) % s.judge_every == 0):
            pixels = (photo + moved).round().to(torch.uint8).cpu()
            for row, score in enumerate(judge(pixels)):
                held = best[row]
                if held is None or score >= held.score:
                    best[row] = Best(pixels=pixels[row].clone(), score=float(score), step=number)
    return [found for found in best if found is not None]
