"""A vision-language model without a picture: its text-only prompts, answers and losses."""

from collections.abc import Sequence
from functools import cached_property

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from sif_offline.baselines.base import BaselineError
from sif_offline.baselines.borrowing import model_of, processor_of
from sif_offline.forging.decoding import forced_rules
from sif_offline.forging.objectives import cross_entropy
from sif_offline.forging.teacher import pad_right
from sif_offline.models.base import VLMAdapter

Ids = list[int]


class TextPath:
    """How an endpoint answers a user who sends words alone.

    Args:
        adapter: any whose processor has a chat template.

    Raises:
        BaselineError: its processor or template cannot do without a picture.
    """

    def __init__(self, adapter: VLMAdapter) -> None:
        self.adapter = adapter
        self.model = model_of(adapter)
        self.tokenizer = Tokenizer.from_str(adapter.tokenizer_json().decode())
        place = getattr(self.model.config, "image_token_id", None)
        try:
            ids = self.prompt_ids("Hello")
        except Exception as error:  # a template and a processor fail in ways of their own
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise BaselineError(f"{adapter.name}: no text-only path ({reason})") from error
        if place in ids:
            raise BaselineError(f"{adapter.name}: no text-only path (its prompt always holds a picture)")

    def prompt_ids(self, words: str) -> Ids:
        """Ids of the whole prompt: one user turn of ``words`` in the processor's own chat template."""
        processor = processor_of(self.adapter)
        turn = [{"role": "user", "content": [{"type": "text", "text": words}]}]
        text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        bos = processor.tokenizer.bos_token
        started = bool(bos) and text.startswith(bos)  # as apply_chat_template itself asks
        ids: Ids = processor.tokenizer(text, add_special_tokens=not started)["input_ids"]
        return ids

    @torch.inference_mode()
    def answers(self, prompts: Sequence[str], *, processors: Sequence[LogitsProcessor] = ()) -> list[str]:
        """Greedy answers under the model's own decoding rules, one prompt after the other.

        Args:
            prompts: the user's words.
            processors: change the scores, after the model's own rules.
        """
        rules, device = self.adapter.rules, self.adapter.device
        texts = []
        for words in prompts:
            prompt = torch.tensor([self.prompt_ids(words)], device=device)
            output = self.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=rules.max_new_tokens,
                do_sample=False,
                num_beams=1,
                logits_processor=LogitsProcessorList(processors),
            )
            ids = output[0, prompt.shape[1] :].tolist()
            end = next((place for place, token in enumerate(ids) if token in rules.end_ids), len(ids))
            texts.append(self.adapter.text(ids[:end]))
        return texts

    def nats(self, prompts: Sequence[Ids], answers: Sequence[Ids], *, ruled: bool = True) -> Tensor:
        """-log p a token of each answer behind its prompt, ``(batch,)`` float32, on the graph.

        Args:
            prompts: ids of whole prompts, of any lengths.
            answers: ids of answers, at least one each.
            ruled: under the model's own repetition penalty and n-gram ban, as greedy decoding compares.
        """
        rows = [[*prompt, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
        length = max(map(len, rows))
        ids = pad_right(rows, length=length, device=self.adapter.device)
        keep = length - min(map(len, prompts)) + 1
        # attention is causal: what stands behind a row's end cannot reach back
        logits = self.model(input_ids=ids, logits_to_keep=keep, use_cache=False).logits.float()
        losses = []
        for row, prompt, answer in zip(logits, prompts, answers, strict=True):
            first = len(prompt) - 1 - (length - keep)
            said = torch.tensor([answer], device=ids.device)
            here = row[None, first : first + len(answer)]
            losses.append(cross_entropy(self._ruled(here, prompt, answer) if ruled else here, said).mean())
        return torch.stack(losses)

    def _ruled(self, logits: Tensor, prompt: Ids, answer: Ids) -> Tensor:
        rules = forced_rules(
            self.adapter.rules,
            prompt_ids=torch.tensor(prompt, device=logits.device),
            responses=[answer],
            length=len(answer),
            vocab_size=logits.shape[-1],
        )
        return rules(logits)

    @cached_property
    def plain_ids(self) -> Tensor:
        """``(n,)`` int64: ids whose text is printable ASCII and no special token's."""
        special = self.adapter.special_ids | self.adapter.rules.end_ids
        count = min(self.tokenizer.get_vocab_size(), self.adapter.vocab_size)
        texts = self.tokenizer.decode_batch([[i] for i in range(count)], skip_special_tokens=False)
        kept = [
            i
            for i, text in enumerate(texts)
            if i not in special and text.strip() and text.isascii() and text.strip().isprintable()
        ]
        return torch.tensor(kept)

    def words(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, no space around it."""
        text: str = self.tokenizer.decode(list(ids))
        return text.strip()
