"""The losses of SIF (arXiv 2604.17041), on response tokens only."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Losses(NamedTuple):
    """One value a trigger, ``(batch,)`` float32 each, and how often the best-green fallback was needed."""

    total: Tensor
    watermark: Tensor
    cross_entropy: Tensor
    fallback_share: Tensor


def watermark_loss(logits: Tensor, green: Tensor, *, top_k: int) -> tuple[Tensor, Tensor]:
    """-log of the green share of the top-K mass at every position.

    L_wm(t) = -log sum_{v in topK(t), green} p~_t(v), with p~ the softmax renormalised over the top K. Where
    no top-K id is green, the best green id takes the K-th one's place: otherwise the loss is -log 0, without
    a gradient.

    Args:
        logits: ``(batch, T, V)`` float32; -inf where decoding bans an id.
        green: ``(batch, V)`` bool, one list a trigger.
        top_k: K, cut to V.

    Returns:
        The loss ``(batch, T)`` in nats, and ``(batch, T)`` bool: where the fallback was used.
    """
    top, ids = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    is_green = green[:, None, :].expand_as(logits).gather(-1, ids)
    none = ~is_green.any(dim=-1)
    if none.any():  # rare, and a pass over the whole vocabulary both ways
        best_green = logits.masked_fill(~green[:, None, :], -math.inf).amax(dim=-1)
        last = torch.zeros_like(is_green)
        last[..., -1] = True
        swap = none[..., None] & last
        top = torch.where(swap, best_green[..., None], top)
        is_green = is_green | swap
    return top.logsumexp(-1) - top.masked_fill(~is_green, -math.inf).logsumexp(-1), none


def cross_entropy(logits: Tensor, response_ids: Tensor) -> Tensor:
    """-log p(teacher's id): ``(batch, T, V)`` logits and ``(batch, T)`` int64 to ``(batch, T)`` nats."""
    # rows side by side: over a transposed vocabulary the CPU takes four times as long
    flat = functional.cross_entropy(logits.flatten(0, 1), response_ids.flatten(), reduction="none")
    return flat.view_as(response_ids)


def floored(loss: Tensor, *, floor: float) -> Tensor:
    """-log p to -log((p + floor) / (1 + floor)), elementwise; far below the floor the gradient fades."""
    if floor == 0:
        return loss
    return math.log1p(floor) - torch.log(torch.exp(-loss) + floor)


def position_weights(lengths: Tensor, *, total: int) -> Tensor:
    """Even weights of response positions: they sum to 1 a trigger and are 0 behind its end.

    Args:
        lengths: ``(batch,)`` int64, tokens of each response, at least 1.
        total: T, the padded length.

    Returns:
        ``(batch, T)`` float32.
    """
    weights = (torch.arange(total, device=lengths.device) < lengths[:, None]).float()
    return weights / weights.sum(dim=-1, keepdim=True)
