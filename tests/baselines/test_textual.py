"""Models asked without a picture: every family's own prompt, and the answer that the losses speak of."""

from typing import Any

import pytest
import torch

from sif_offline.baselines import BaselineError, Sent, ask
from sif_offline.baselines.spans import question_span
from sif_offline.baselines.textual import TextPath
from sif_offline.lab import tiny_lab_model
from sif_offline.models.lab import LabAdapter
from sif_offline.models.testing import TINY, tiny_adapter


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(family: str) -> Any:
    made = LabAdapter(*tiny_lab_model(0), name="lab:tiny") if family == "lab" else tiny_adapter(family)
    made.rules = type(made.rules)(max_new_tokens=5, end_ids=made.rules.end_ids)
    made.model.generation_config.no_repeat_ngram_size = None
    return made


@pytest.mark.parametrize("family", ["lab", *TINY])
def test_every_family_answers_words_alone_as_its_losses_say(family: str) -> None:
    """The greedy answer is the likeliest id at each position, of two prompts of different lengths at once."""
    adapter = tiny(family)
    path = TextPath(adapter)
    words = ["Hi", "Who are you, then?"]
    prompts = [path.prompt_ids(text) for text in words]
    assert len(prompts[0]) < len(prompts[1])
    if family != "lab":
        for text, ids in zip(words, prompts, strict=True):
            turn = [{"role": "user", "content": [{"type": "text", "text": text}]}]
            own = adapter.processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=True)
            assert ids == own[0]
    answers = [[], []]
    with torch.no_grad():
        for _ in range(adapter.rules.max_new_tokens):
            for prompt, answer in zip(prompts, answers, strict=True):
                ids = torch.tensor([prompt + answer])
                answer.append(int(adapter.model(input_ids=ids).logits[0, -1].argmax()))
        for place in range(2):
            other = [(token + 1) % adapter.vocab_size for token in answers[place]]
            said, others = path.nats([prompts[place]] * 2, [answers[place], other])
            assert said < others
        together = path.nats(prompts, answers)
        alone = [path.nats([p], [a])[0] for p, a in zip(prompts, answers, strict=True)]
    assert together.tolist() == pytest.approx([float(loss) for loss in alone], rel=1e-4, abs=1e-5)
    ends = adapter.rules.end_ids
    cut = [next((i for i, token in enumerate(a) if token in ends), len(a)) for a in answers]
    expected = [adapter.text(answer[:end]) for answer, end in zip(answers, cut, strict=True)]
    assert ask(adapter, [Sent(text) for text in words]) == expected


@pytest.mark.parametrize("family", ["lab", *TINY])
def test_the_users_words_are_found_in_every_familys_prompt(family: str) -> None:
    adapter = tiny(family)
    question = "Which dog is it?"
    start, end = question_span(adapter, question)
    ids = adapter.prompt_ids(question).tolist()
    assert adapter.text(ids[start:end]).strip() == question
    assert adapter.model.config.image_token_id not in ids[start:end]


def test_a_model_that_always_wants_a_picture_is_refused_in_one_line() -> None:
    adapter = tiny("llava")
    adapter.processor.chat_template = "<image>" + adapter.processor.chat_template
    with pytest.raises(
        BaselineError, match=r"llava:tiny: no text-only path \(its prompt always holds a picture"
    ):
        TextPath(adapter)
    adapter.processor.chat_template = "{{ raise_exception('a picture is needed') }}"
    with pytest.raises(BaselineError, match=r"no text-only path \(a picture is needed\)"):
        TextPath(adapter)
