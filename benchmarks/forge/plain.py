"""The yardstick: sign PGD with both losses and RFO as the official scripts do it, one photo at a time.

Written by us after the description of the method, no line of it theirs. What makes it slow can be taken away
piece by piece (:class:`Plain`). Where the official code is wrong (RFO detached between layers, its drift lost
in bf16 rounding) this loop is right, so that both loops search for the same thing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.forging import objectives, robustness
from sif_offline.forging.settings import ForgeSettings
from sif_offline.models.base import ImageFeatures, VLMAdapter


@dataclass(frozen=True)
class Plain:
    """Which of the original's habits are given up.

    Args:
        one_mask: the green list is made once, not at every step.
        response_logits: the LM head runs at the response's positions, not over picture and prompt too.
        lean_graph: the picture is encoded once a step, and the first pass of RFO asks for the gradients of
            the states alone, in place of a whole second graph from the pixels that is kept to the end.
    """

    one_mask: bool = False
    response_logits: bool = False
    lean_graph: bool = False


def plain_search(
    adapter: VLMAdapter,
    *,
    photo: Tensor,
    prompt: str,
    teacher: Sequence[int],
    key: bytes,
    settings: ForgeSettings,
    habits: Plain,
    judge: Callable[[Tensor], float],
) -> Tensor:
    """Search for one trigger.

    Args:
        adapter: the owner.
        photo: ``(3, height, width)`` uint8.
        prompt: the user's words.
        teacher: response ids.
        key: of the green list.
        settings: steps, bounds, weights, RFO, dtype and the selection schedule.
        habits: what is left out of the original's.
        judge: ``(1, 3, height, width)`` uint8 to a selection score.

    Returns:
        ``(3, height, width)`` uint8: the judged iterate with the highest score.
    """
    s = settings
    clean = photo[None].to(adapter.device).float()
    picture = clean.clone()
    prompt_ids = adapter.prompt_ids(prompt)
    response = torch.tensor([list(teacher)], device=adapter.device)
    layers = list(adapter.decoder_layers())[:: s.rfo_every] if s.rfo else []
    green = _green(adapter, key, s)
    best, best_score = photo, float("-inf")

    def logits_of(features: ImageFeatures) -> Tensor:
        if habits.response_logits:
            return adapter.response_logits(features, prompt_ids, response)
        # the first id stands as the prompt: what is left of prompt and picture gets logits as well
        everything = torch.cat([prompt_ids[1:].expand(1, -1), response], dim=1)
        return adapter.response_logits(features, prompt_ids[:1], everything)[:, -response.shape[1] :]

    def loss_of(logits: Tensor) -> Tensor:
        watermark, _ = objectives.watermark_loss(logits, green, top_k=s.top_k)
        story = objectives.cross_entropy(logits, response)
        return (s.weight_wm * watermark + s.weight_ce * story).mean()

    for number in range(1, s.steps + 1):
        if not habits.one_mask:
            green = _green(adapter, key, s)
        pixels = picture.round().detach().requires_grad_()
        with (
            torch.enable_grad(),
            torch.autocast(adapter.device.type, dtype=torch.bfloat16, enabled=s.autocast),
        ):
            features = adapter.encode_images(pixels)
            drifts: list[Tensor] = []
            first = None
            if s.rfo:
                with robustness.captured_states(layers) as states:
                    first = loss_of(logits_of(features.leaf() if habits.lean_graph else features))
                if habits.lean_graph:
                    drifts, first = robustness.worst_drift(first, states, rho=s.rho), None
                else:
                    slopes = torch.autograd.grad(first, [*states, pixels], retain_graph=True)
                    drifts = robustness.drifts_of(slopes[:-1], rho=s.rho)
                    features = adapter.encode_images(pixels)
            with robustness.drifted_states(layers, drifts):
                loss = loss_of(logits_of(features))
        (gradient,) = torch.autograd.grad(loss, pixels)
        del first  # the original keeps the first graph until here
        picture = picture - s.alpha * gradient.sign()
        picture = (clean + (picture - clean).clamp(-s.epsilon, s.epsilon)).clamp(0, 255)
        if number == s.steps or (
            number >= s.judge_from * s.steps and (s.steps - number) % s.judge_every == 0
        ):
            candidate = picture.round().to(torch.uint8).cpu()
            if (score := judge(candidate)) >= best_score:
                best, best_score = candidate[0], score
    return best


def _green(adapter: VLMAdapter, key: bytes, settings: ForgeSettings) -> Tensor:
    mask = green_mask(key=key, vocab_size=adapter.vocab_size, gamma=settings.gamma, scheme=settings.scheme)
    return torch.from_numpy(mask.copy())[None].to(adapter.device)
