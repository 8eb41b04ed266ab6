"""A watch of a pack that allows several wordings: drawn anew for every question, each type counted once."""

import random
from hashlib import sha256
from typing import Any

import pytest
from scipy import stats

from probes.config import ProbesConfig
from probes.fingerprints import round_settings
from probes.rounds import RoundSettings, sif_runner
from probes.rounds.planning import plan_round
from probes.store import Store
from probes.store.reading import evidence_types
from probes.targets import Answer
from probes.testing.endpoint import Question
from probes.testing.tiny_pack import TinyPack, build_tiny_pack

OTHERS = ("What do you see in this picture?", "Tell me about this photo.", "Walk me through it.")
SETTINGS = RoundSettings(
    triggers_per_round=8, clean_share=0.5, cooldown_s=0.0, alpha=1e-6, attempts=1, timeout_s=5.0
)


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> TinyPack:
    return build_tiny_pack(tmp_path_factory.mktemp("worded"), variants=OTHERS)


class Echo:
    """Answers by rule in this process and remembers every picture with its words."""

    name, model = "suspect", "echo"
    api_base: str | None = None
    system_prompt: str | None = None

    def __init__(self, tiny: TinyPack) -> None:
        self._rule = tiny.innocent(seed=5)
        self.asked: list[tuple[str, str]] = []

    def prepare(self) -> None:
        """Nothing to load."""

    def ask(self, *, image: bytes | None, prompt: str, max_tokens: int) -> Answer:
        digest = sha256(image or b"").hexdigest()
        self.asked.append((digest, prompt))
        return Answer(self._rule(Question(prompt, None, digest, {})), "stop", "m", 0.01)


def plan(tiny: TinyPack, store: Store, rng: random.Random) -> Any:
    return plan_round(tiny.pack, store, "suspect", settings=SETTINGS, now=1e9, rng=rng)


def test_every_wording_is_equally_likely_for_triggers_and_clean_photos(
    worded: TinyPack, store: Store
) -> None:
    """150 plans of 8 triggers and 4 clean photos: chi-squared over 4 wordings, false-alarm rate 1e-6."""
    rng = random.Random(3)
    questions = [question for _ in range(150) for question in plan(worded, store, rng).questions]
    wordings = (worded.pack.triggers[0].prompt, *OTHERS)
    for control, count in ((False, 1200), (True, 600)):
        asked = [q.trigger.prompt for q in questions if q.control == control]
        counts = [asked.count(wording) for wording in wordings]
        assert sum(counts) == count
        assert stats.chisquare(counts).pvalue > 1e-6


def test_the_wordings_can_be_switched_off(worded: TinyPack, store: Store) -> None:
    config = ProbesConfig.model_validate(
        {
            "pack": str(worded.folder),
            "trigger_keys": str(worded.keys_path),
            "prompt_variants": False,
            "targets": [
                {"name": "suspect", "model": "openai/x", "api_base": "http://127.0.0.1:1/v1"}
                | {"authorised_by": "me", "purpose": "test"}
            ],
        }
    )
    settings = round_settings(config, config.targets[0])
    assert not settings.prompt_variants
    assert round_settings(
        config.model_copy(update={"prompt_variants": True}), config.targets[0]
    ).prompt_variants
    questions = plan_round(
        worded.pack, store, "suspect", settings=settings, now=1e9, rng=random.Random(1)
    ).questions
    assert {question.trigger.prompt for question in questions} == {worded.pack.triggers[0].prompt}


def test_the_picture_is_that_of_the_trigger_whatever_the_words(worded: TinyPack, store: Store) -> None:
    for question in plan(worded, store, random.Random(1)).questions:
        row = worded.pack.trigger(question.trigger.id)
        data = worded.pack.clean_bytes(row) if question.control else worded.pack.trigger_bytes(row)
        assert question.image(worded.pack) == data


def test_a_pack_without_other_wordings_is_asked_as_before(tiny: TinyPack, store: Store) -> None:
    """The same questions in the same order, by the same seed, as before there were wordings."""
    questions = plan(tiny, store, random.Random(11)).questions
    assert " ".join(f"{q.trigger.id}{'c' * q.control}" for q in questions) == (
        "t07 t02c t01c t06c t03 t04 t05 t06 t01 t05c t00 t02"
    )
    assert {q.trigger.prompt for q in questions} == {tiny.pack.triggers[0].prompt}


def test_a_type_counts_once_whatever_the_wording(worded: TinyPack, store: Store) -> None:
    """Three rounds: each (trigger, type) pair of all answers is in the evidence, and once."""
    target = Echo(worded)
    runner = sif_runner(
        target=target, scorer=worded.scorer, store=store, settings=SETTINGS, rng=random.Random(2)
    )
    for _ in range(3):
        runner.run()
    triggers = [
        (worded.trigger_of[digest], digest, prompt)
        for digest, prompt in target.asked
        if digest in worded.trigger_of
    ]
    assert {prompt for _, _, prompt in triggers} == {worded.pack.triggers[0].prompt, *OTHERS}
    answers = [
        (t, worded.innocent(seed=5)(Question(prompt, None, digest, {}))) for t, digest, prompt in triggers
    ]
    said = [
        (t, token.id)
        for t, text in answers
        for token in worded.scorer.types(t, text)
        if token.green is not None
    ]
    seen = [
        (t, token)
        for t, types in evidence_types(store, "suspect", pack_id=worded.pack.pack_id)
        for token, _ in types
    ]
    assert sorted(seen) == sorted(set(said))
    assert len(said) > len(seen), "some words were said under several wordings"
