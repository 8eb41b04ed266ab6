"""Forced rules against transformers' own processors, prefix by prefix."""

import math

import torch
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from sif_offline.forging.decoding import forced_rules
from sif_offline.models.base import DecodingRules

PROMPT = torch.tensor([1, 5, 3, 3, 3, 3, 6, 7])
VOCAB = 12


def test_forced_rules_equal_the_processors_on_every_prefix() -> None:
    generator = torch.Generator().manual_seed(2)
    responses = [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in (30, 17)]
    length = 30
    rules = DecodingRules(max_new_tokens=40, repetition_penalty=1.3, no_repeat_ngram_size=3)
    forced = forced_rules(rules, prompt_ids=PROMPT, responses=responses, length=length, vocab_size=VOCAB)
    logits = torch.randn(2, length, VOCAB, generator=generator) * 4
    got = forced(logits)
    bans = 0
    for row, response in enumerate(responses):
        for place in range(len(response)):
            prefix = torch.cat([PROMPT, torch.tensor(response[:place], dtype=torch.int64)])[None]
            want = RepetitionPenaltyLogitsProcessor(1.3)(prefix, logits[row, place][None].clone())
            banned = NoRepeatNGramLogitsProcessor(3)(prefix, torch.zeros(1, VOCAB))[0] == -math.inf
            bans += int(banned.sum())
            banned[response[place]] = False  # the teacher's own id stays
            want = want[0].masked_fill(banned, -math.inf)
            torch.testing.assert_close(got[row, place], want)
    assert bans > 0


def test_rules_that_are_off_change_nothing() -> None:
    rules = DecodingRules(max_new_tokens=4)
    forced = forced_rules(rules, prompt_ids=PROMPT, responses=[[4, 5, 4]], length=3, vocab_size=VOCAB)
    logits = torch.randn(1, 3, VOCAB, generator=torch.Generator().manual_seed(0))
    assert torch.equal(forced(logits), logits)


def test_the_gradient_through_the_rules() -> None:
    """Against the same arithmetic written out over the whole vocabulary."""
    generator = torch.Generator().manual_seed(5)
    responses = [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in (30, 17)]
    rules = DecodingRules(max_new_tokens=40, repetition_penalty=1.3, no_repeat_ngram_size=3)
    forced = forced_rules(rules, prompt_ids=PROMPT, responses=responses, length=30, vocab_size=VOCAB)
    logits = (torch.randn(2, 30, VOCAB, generator=generator) * 4).requires_grad_()
    weights = torch.rand(2, 30, VOCAB, generator=generator)
    seen, banned = (torch.zeros(logits.numel(), dtype=torch.bool) for _ in range(2))
    seen[forced.seen], banned[forced.banned] = True, True
    seen, banned = seen.view_as(logits), banned.view_as(logits)
    penalised = torch.where(logits > 0, logits / 1.3, logits * 1.3)
    dense = torch.where(seen, penalised, logits).masked_fill(banned, -math.inf)
    assert torch.equal(forced(logits), dense)
    slopes = [
        torch.autograd.grad((found.softmax(-1) * weights).sum(), logits)[0]
        for found in (forced(logits), dense)
    ]
    torch.testing.assert_close(slopes[0], slopes[1])
