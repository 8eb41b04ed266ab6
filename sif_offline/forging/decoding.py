"""The model's own decoding rules on teacher-forced logits, for all positions at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sif_offline.models.base import DecodingRules


@dataclass(frozen=True)
class ForcedRules:
    """What the rules do at every response position once the teacher's prefix is known.

    Both tensors hold places in the flattened ``(batch, T, V)`` logits, int64: few of them are touched, and a
    pass over all costs as much as the loss itself.

    Args:
        seen: ids of prompt and prefix, which the repetition penalty meets; may be empty.
        banned: ids that would repeat an n-gram; may be empty.
        penalty: the repetition penalty.
    """

    seen: Tensor
    banned: Tensor
    penalty: float

    def __call__(self, logits: Tensor) -> Tensor:
        """``(batch, T, V)`` logits as greedy decoding compares them, -inf where banned."""
        if not len(self.seen) and not len(self.banned):
            return logits
        ruled: Tensor = _Ruled.apply(logits, self.seen, self.banned, self.penalty)  # type: ignore[no-untyped-call] # torch's own
        return ruled


class _Ruled(torch.autograd.Function):
    """One copy there and one back, the rest in place."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, seen: Tensor, banned: Tensor, penalty: float) -> Tensor:
        ruled = logits.clone(memory_format=torch.contiguous_format)
        flat = ruled.view(-1)
        chosen = flat[seen]
        positive = chosen > 0
        flat[seen] = torch.where(positive, chosen / penalty, chosen * penalty)
        flat[banned] = -math.inf
        ctx.save_for_backward(seen, banned, positive)
        ctx.penalty = penalty
        return ruled

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        seen, banned, positive = ctx.saved_tensors
        slope = slopes[0].clone(memory_format=torch.contiguous_format)
        flat = slope.view(-1)
        chosen = flat[seen]
        flat[seen] = torch.where(positive, chosen / ctx.penalty, chosen * ctx.penalty)
        flat[banned] = 0
        return slope, None, None, None


def no_rules(device: torch.device) -> ForcedRules:
    """Rules that leave every logit alone."""
    none = torch.empty(0, dtype=torch.int64, device=device)
    return ForcedRules(seen=none, banned=none, penalty=1.0)


def forced_rules(
    rules: DecodingRules,
    *,
    prompt_ids: Tensor,
    responses: Sequence[Sequence[int]],
    length: int,
    vocab_size: int,
) -> ForcedRules:
    """Precompute the rules for a batch of teacher texts.

    The same arithmetic as transformers' ``RepetitionPenaltyLogitsProcessor`` and
    ``NoRepeatNGramLogitsProcessor`` on each prefix. The teacher's own id is never banned: it was decoded
    under the same rules, and a teacher from elsewhere must not make the loss infinite.

    Args:
        rules: of the model.
        prompt_ids: ``(prompt length,)`` int64, the same for all.
        responses: teacher ids, a list a trigger.
        length: T, padded length; positions behind a response's end stay untouched.
        vocab_size: V.
    """
    prompt = prompt_ids.tolist()
    seen: list[Tensor] = []
    banned: list[int] = []
    for row, response in enumerate(responses):
        start = row * length * vocab_size
        if rules.repetition_penalty != 1:
            met = torch.zeros(length, vocab_size, dtype=torch.bool)
            met[:, prompt] = True
            for place, token in enumerate(response):
                met[place + 1 :, token] = True
            seen.append(met.flatten().nonzero()[:, 0] + start)
        if rules.no_repeat_ngram_size > 0:
            for place, tokens in enumerate(_banned_after(prompt, response, rules.no_repeat_ngram_size)):
                here = start + place * vocab_size
                banned += [here + token for token in sorted(tokens) if token != response[place]]
    none = torch.empty(0, dtype=torch.int64)
    return ForcedRules(
        seen=torch.cat([none, *seen]).to(prompt_ids.device),
        banned=torch.tensor(banned, dtype=torch.int64, device=prompt_ids.device),
        penalty=rules.repetition_penalty,
    )


def _banned_after(prompt: Sequence[int], response: Sequence[int], size: int) -> list[set[int]]:
    """For every response position the ids that would complete an n-gram which stands before it."""
    ids = [*prompt, *response]
    following: dict[tuple[int, ...], set[int]] = {}
    banned: list[set[int]] = []
    for place in range(len(ids)):
        if place >= len(prompt):
            context = tuple(ids[place - size + 1 : place]) if place >= size - 1 else None
            banned.append(set(following.get(context, ())) if context is not None else set())
        if place >= size - 1:
            following.setdefault(tuple(ids[place - size + 1 : place]), set()).add(ids[place])
    return banned
