"""The model's own decoding rules on teacher-forced logits, for all positions at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sif_offline.models.base import DecodingRules


@dataclass(frozen=True)
class ForcedRules:
    """What the rules do at every response position once the teacher's prefix is known.

    Args:
        seen: ``(batch, T, V)`` bool, ids of prompt and prefix, or None without a repetition penalty.
        banned: ``(batch, T, V)`` bool, ids that would repeat an n-gram, or None without a ban.
        penalty: the repetition penalty.
    """

    seen: Tensor | None
    banned: Tensor | None
    penalty: float

    def __call__(self, logits: Tensor) -> Tensor:
        """``(batch, T, V)`` logits as greedy decoding compares them, -inf where banned."""
        if self.seen is not None:
            penalised = torch.where(logits > 0, logits / self.penalty, logits * self.penalty)
            logits = torch.where(self.seen, penalised, logits)
        return logits if self.banned is None else logits.masked_fill(self.banned, -math.inf)


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
    shape = (len(responses), length, vocab_size)
    device = prompt_ids.device
    seen = torch.zeros(shape, dtype=torch.bool, device=device) if rules.repetition_penalty != 1 else None
    banned = torch.zeros(shape, dtype=torch.bool, device=device) if rules.no_repeat_ngram_size > 0 else None
    prompt = prompt_ids.tolist()
    for row, response in enumerate(responses):
        if seen is not None:
            seen[row, :, prompt] = True
            for place, token in enumerate(response):
                seen[row, place + 1 :, token] = True
        if banned is not None:
            for place, tokens in enumerate(_banned_after(prompt, response, rules.no_repeat_ngram_size)):
                banned[row, place, [token for token in tokens if token != response[place]]] = True
    return ForcedRules(seen=seen, banned=banned, penalty=rules.repetition_penalty)


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
