"""Every knob of the forge, in one frozen model that travels in the pack."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from sif_offline.fingerprint.errors import SifError

Fraction = Annotated[float, Field(ge=0, le=1)]


class SettingsError(SifError):
    """A setting or preset that does not exist, or a value that it does not take."""


class ForgeSettings(BaseModel):
    """Settings of one forging run.

    "Paper" is SIF (arXiv 2604.17041), "official" its published scripts. Where a default differs from both,
    it was chosen on the lab model; the table behind it is in ``docs/forging.md``.

    Attributes:
        prompts: the user's words; trigger i takes prompt i modulo their number.
        seed: of the teacher's sampling and of the perturbed copies.
        gamma: share of green ids (paper: .5).
        scheme: versioned green-list construction of :mod:`sif_offline.fingerprint.greenlist`.
        delta: added to green logits while the teacher decodes.
        teacher_tokens: length limit of the teacher's text (official: 96); 0 is the model's own.
        teacher_draws: teacher texts a photo; the first is greedy, the others are sampled.
        teacher_temperature: of the sampled draws.
        teacher_min_p: ids less likely than this share of the likeliest are barred from the teacher's text
            before the bias; 0 is published.
        teacher_naturalness: weight of the draw's mean log-likelihood (nats a token, without the watermark)
            against its z when the draws are ranked.
        min_tokens, min_types, min_distinct: gate: tokens, distinct types and types per token that a draw
            needs.
        min_similarity: gate: cosine of MiniLM's embedding of the draw to that of the owner's own answer to
            the clean photo; -1 does not ask. Where no draw passes, the best ranked one is taken and the row
            says so.
        steps: optimiser steps (paper: 1000, official: 500).
        epsilon: bound of |trigger - photo| for every channel of every pixel, in 1/255 (paper: 16).
        search: "sign" is PGD as published; "momentum" takes the sign of a running sum of gradients; "adam"
            works on a tanh that keeps the picture in the box.
        schedule: of the step length: "constant" (as published), "linear", "cosine".
        alpha, alpha_end: step length in 1/255, first and last (paper: 1, constant, without an end).
        smoothing: deviation in pixels of the Gaussian that the gradient is convolved with; 0 is published.
        momentum: share of the running sum that is kept from step to step.
        top_k: ids over which L_wm is renormalised (paper: 50, official: 10).
        weight_wm, weight_ce: of the two published losses (paper: .5 and .5, official: 1 and .5).
        floor: both published losses become -log((p + floor) / (1 + floor)): positions that no picture can
            move lose their hold on the gradient. 0 is published.
        decoding_in_loss: apply the model's repetition penalty and n-gram ban, as they stand after the
            teacher's prefix, to the forced logits, so that the forced distribution is the one that decoding
            uses.
        on_policy_every: steps after which the owner answers the present iterate; that answer then bears the
            watermark loss beside the teacher's text until the next one. 0 is published: never.
        on_policy_weight: its share of the whole loss.
        on_policy_temperature: of that answer; 0 is greedy. A sampled one shows the positions that an endpoint
            which samples comes by.
        rfo: worst-case drift of the activations (RFO of the paper).
        rho: joint norm of the drift over the chosen layers (paper: .5, official: .05).
        rfo_reuse: drift along the gradients of the step before, which one pass brings along, in place of two
            passes a step (as "free" adversarial training does, arXiv 1904.12843). False is published.
        rfo_every: every n-th decoder layer drifts, counted from the first (paper: 1, official: 8).
        transport_share: share of the steps whose gradient goes through a drawn transform; the rest see the
            picture as it is. Without a transform switched on (as published) every step does.
        transport_jpeg: JPEG qualities to draw from; none is off.
        transport_jpeg_straight: the forward pass is PIL's very decode, not our differentiable one.
        transport_resize: factors to draw from, resized to and back; none is off.
        transport_crop: largest share of height and width that is cut off; 0 is off.
        transport_noise: deviation of Gaussian noise in 1/255; 0 is off.
        rfo_layers: numbers of the layers that drift, from 0; none leaves it to ``rfo_every``.
        ensemble: copies of the owner whose gradients are followed as well: ``noise`` or ``noise:SIZE``,
            ``nf4``, ``int8``; none is published.
        ensemble_mode: "alternate" takes one member a step, the owner first; "average" all at every step.
        batch_size: triggers a step.
        autocast: bfloat16 where torch deems it safe; pixels, losses and drift stay float32.
        judge_from: share of the steps before which no iterate is judged.
        judge_every: steps between judged iterates.
        stop_at: selection score at which a trigger is good enough: its search ends there. None never does.
        judge_noise: relative weight noise of the perturbed copies used for selection.
        judge_copies: how many of them.
        judge_conditions: what else selection listens to beside the owner and its noisy copies: ``jpeg:Q``,
            ``resize:F``, ``temperature:T``, ``nf4``, ``int8``, ``noise:SIZE``; all count alike.
        refine_rounds, refine_candidates: random search after the gradient: rounds, and pictures tried a round
            and trigger; 0 rounds is published.
        refine_scales: sizes of the random changes, in 1/255, taken in turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: tuple[str, ...] = Field(default=("Describe this picture in detail.",), min_length=1)
    seed: int = Field(default=0, ge=0)
    gamma: float = Field(default=0.5, gt=0, lt=1)
    scheme: Literal["unigram-philox-v1"] = "unigram-philox-v1"

    delta: float = Field(default=6.0, ge=0)
    teacher_tokens: int = Field(default=0, ge=0)
    teacher_draws: int = Field(default=4, ge=1)
    teacher_temperature: float = Field(default=0.7, gt=0)
    teacher_min_p: Fraction = 0.05
    teacher_naturalness: float = Field(default=1.0, ge=0)
    min_tokens: int = Field(default=16, ge=1)
    min_types: int = Field(default=12, ge=1)
    min_distinct: Fraction = 0.4
    min_similarity: float = Field(default=-1.0, ge=-1, le=1)

    steps: int = Field(default=40, ge=1)
    epsilon: int = Field(default=16, ge=1, le=255)
    search: Literal["sign", "momentum", "adam"] = "momentum"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    alpha: float = Field(default=1.0, gt=0)
    alpha_end: float = Field(default=0.1, gt=0)
    smoothing: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)

    top_k: int = Field(default=50, ge=1)
    weight_wm: float = Field(default=0.5, ge=0)
    weight_ce: float = Field(default=0.5, ge=0)
    floor: float = Field(default=0.0, ge=0)
    decoding_in_loss: bool = True

    on_policy_every: int = Field(default=0, ge=0)
    on_policy_weight: Fraction = 0.5
    on_policy_temperature: float = Field(default=0.7, ge=0)

    rfo: bool = True
    rho: float = Field(default=0.5, gt=0)
    rfo_reuse: bool = False
    rfo_every: int = Field(default=1, ge=1)

    rfo_layers: tuple[Annotated[int, Field(ge=0)], ...] = ()

    ensemble: tuple[str, ...] = ()
    ensemble_mode: Literal["alternate", "average"] = "alternate"

    transport_share: Fraction = 0.5
    transport_jpeg: tuple[Annotated[int, Field(ge=1, le=100)], ...] = ()
    transport_jpeg_straight: bool = False
    transport_resize: tuple[PositiveFloat, ...] = ()
    transport_crop: float = Field(default=0.0, ge=0, lt=1)
    transport_noise: float = Field(default=0.0, ge=0)

    batch_size: int = Field(default=6, ge=1)
    autocast: bool = True
    judge_from: Fraction = 0.5
    judge_every: int = Field(default=20, ge=1)
    stop_at: float | None = None
    judge_noise: float = Field(default=0.1, ge=0)
    judge_copies: int = Field(default=2, ge=0)
    judge_conditions: tuple[str, ...] = ()

    refine_rounds: int = Field(default=6, ge=0)
    refine_candidates: int = Field(default=8, ge=1)
    refine_scales: tuple[PositiveFloat, ...] = Field(default=(2.0, 4.0, 8.0, 12.0), min_length=1)
