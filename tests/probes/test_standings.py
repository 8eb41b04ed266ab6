"""Where the e-processes stand is kept between rounds, and is always what a replay of all answers gives."""

import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from sqlalchemy import delete, inspect, select, update

from probes import standing
from probes.rounds import runner as runner_module
from probes.rounds import scoring
from probes.rounds.rescoring import rescore
from probes.store import Store, open_store
from probes.store.lease import new_holder
from probes.store.migrate import alembic_config, upgrade
from probes.store.reading import evidence_types, last_rounds
from probes.store.retention import drop_answers
from probes.store.tables import AnswerRow, AskRow, ScoreRow, StandingRow
from probes.targets import Answer
from probes.testing.tiny_pack import TinyPack
from sif_offline.fingerprint.evidence.commitment import Policy
from tests.probes.conftest import Scripted
from tests.probes.rows import failure

TARGET = "suspect"


class Talker(Scripted):
    """Says eight words out of 120: answers overlap, and go on bringing new types for a hundred rounds."""

    def __init__(self, rng: random.Random, words: list[str]) -> None:
        self.rng, self.words = rng, words[:120]

    def ask(self, **_: Any) -> Answer:
        if self.rng.random() < 0.15:
            raise failure(in_doubt=True)
        return Answer(self.text(), "stop", "m", 0.01)

    def text(self) -> str:
        return "x " + " ".join(self.rng.sample(self.words, 8))


class Life:
    """What may become of a target; each method is something that happens to it."""

    def __init__(self, store: Store, tiny: TinyPack, make_runner: Any, seed: int) -> None:
        self.store, self.tiny, self.make = store, tiny, make_runner
        self.rng = random.Random(seed)
        self.talker = Talker(self.rng, tiny.words)
        self.now = 1e6
        self.policy = standing.policy_of(tiny.pack, alpha=1e-6)

    def runner(self) -> Any:
        """A replica of its own: nothing but the store is common to two of them."""
        self.now += 100
        return self.make(
            target=self.talker,
            store=self.store,
            clock=lambda: self.now,
            triggers_per_round=self.rng.randint(1, 4),
            clean_share=0.3,
            cooldown_s=1e-6,
            attempts=1,
        )

    def round(self) -> None:
        self.runner().run()

    def _dies_at_third(self) -> Callable[..., Any]:
        score, calls = standing.score_new, itertools.count()

        def dies(*arguments: Any, **named: Any) -> Any:
            if next(calls) == 2:
                raise RuntimeError
            return score(*arguments, **named)

        return dies

    def crash(self, where: str, what: type[BaseException] = RuntimeError) -> None:
        """A round that ends there, with its lease given back and everything else as it was."""

        def dies(*_: object, **__: object) -> None:
            raise what

        owner: Any = {"close_round": runner_module, "score_new": standing, "ask": self.talker}[where]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, where, dies)
            with pytest.raises(what):
                self.runner().run()

    def crash_before_scoring(self) -> None:
        self.crash("score_new")

    def crash_amid_scoring(self) -> None:
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(RuntimeError):
            patch.setattr(standing, "score_new", self._dies_at_third())
            self.runner().run()

    def crash_before_closing(self) -> None:
        self.crash("close_round")

    def crash_while_asking(self) -> None:
        self.crash("ask", KeyboardInterrupt)

    def answer_in_doubt(self) -> bool:
        """The answer to an earlier question arrives, after later ones have been asked and scored."""
        with self.store.reading() as session:
            doubtful = session.scalars(select(AskRow.id).where(AskRow.state == "in_doubt")).all()
        if not doubtful:
            return False
        said = " ".join(self.rng.sample(self.tiny.words, 12))  # types that no other answer has
        answer = Answer(f"{self.talker.text()} {said}", "stop", "m", 0.01)
        self.store.settle_answer(self.rng.choice(doubtful), answer, kind="answer", now=self.now)
        return True

    def overtaken(self) -> None:
        """Another process scores a late answer after this one has read the scores."""
        keep = scoring.keep_standing

        def late(*arguments: Any, **named: Any) -> bool:
            if self.answer_in_doubt():
                patch.undo()
                scoring.score_pending(
                    self.store, self.tiny.scorer, TARGET, policy=self.policy, holder=new_holder()
                )
            return keep(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scoring, "keep_standing", late)
            self.round()
        self.check()

    def rescored_meanwhile(self) -> None:
        """This process stands still until its lease is another's, who makes all scores anew."""
        for _ in range(3):
            self.round()
            self.answer_in_doubt()
        keep, stalled = scoring.keep_standing, self.runner()

        def stands_still(*arguments: Any, **named: Any) -> bool:
            patch.undo()
            self.store.give_back_lease(TARGET, holder=stalled._holder)
            self.rescored()
            return keep(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scoring, "keep_standing", stands_still)
            stalled.run()
        self.check()

    def rescored(self) -> None:
        rescore(self.store, self.tiny.scorer, TARGET, policy=self.policy, now=self.now)

    def rescoring_crashed(self) -> None:
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(RuntimeError):
            patch.setattr(standing, "score_new", self._dies_at_third())
            self.rescored()

    def rescored_by_other_statistics(self, crash: bool = False) -> None:
        """Every type counts as green; with ``crash`` the process dies after the last score."""
        score = standing.score_new

        def green(*arguments: Any, **named: Any) -> Any:
            found, new, hit = score(*arguments, **named)
            return found, [[token, 1] for token, _ in new], hit

        def dies(*_: object, **__: object) -> None:
            raise RuntimeError

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(RuntimeError):
            patch.setattr(standing, "score_new", green)
            if crash:
                patch.setattr(scoring, "keep_standing", dies)
            self.rescored()

    def rescoring_by_other_statistics_crashed(self) -> None:
        self.rescored_by_other_statistics(crash=True)

    def texts_dropped(self) -> None:
        drop_answers(self.store, TARGET, pack_id="tiny", before=self.now - 300, now=self.now)

    def thrown_away(self) -> None:
        with self.store.writing() as session:
            session.execute(delete(StandingRow))

    def garbled(self) -> None:
        with self.store.writing() as session:
            session.execute(update(StandingRow).values(state=b"garbled"))

    def of_another_test(self) -> None:
        """Kept by a replica that still has the calibration from before."""
        self.thrown_away()
        other = Policy(**{**self.policy.model_dump(), "transfer": None})
        holder = new_holder()
        assert self.store.take_lease(TARGET, holder=holder, now=self.now, ttl_s=60)
        scoring.score_pending(self.store, self.tiny.scorer, TARGET, policy=other, holder=holder)
        self.store.give_back_lease(TARGET, holder=holder)

    def check(self) -> None:
        """After a round: its row has what a replay gives, and no type of a trigger is new twice."""
        answers = evidence_types(self.store, TARGET, pack_id="tiny")
        replayed = standing.evidence(self.tiny.pack, answers, policy=self.policy)
        newest, *_ = last_rounds(self.store, TARGET, pack_id="tiny", limit=1)
        assert (newest.log_e, newest.log_e_max, newest.log_e_independent, newest.verdict) == (
            replayed.log_e,
            replayed.log_e_max,
            replayed.log_e_independent,
            replayed.verdict,
        )
        new = defaultdict(list)
        for trigger_id, types in answers:
            new[trigger_id] += [token for token, _ in types]
        said = defaultdict(set)
        with self.store.reading() as session:
            rows = session.execute(
                select(AskRow.trigger_id, AnswerRow.text)
                .join(AnswerRow, AnswerRow.ask_id == AskRow.id)
                .where(AskRow.control.is_(False), AnswerRow.dropped_at.is_(None))
            )
            for trigger_id, text in rows:
                said[trigger_id] |= {token.id for token in self.tiny.scorer.types(trigger_id, text)}
        for trigger_id, tokens in new.items():
            assert len(set(tokens)) == len(tokens)
            assert said[trigger_id] <= set(tokens)


HAPPENS = [
    name for name in vars(Life) if not name.startswith("_") and name not in ("runner", "crash", "check")
]


def live(life: Life, *, times: int) -> None:
    """Every event so many times, in random order, with a plain round after each."""
    events = HAPPENS * times
    life.rng.shuffle(events)
    for event in events:
        getattr(life, event)()
        life.round()
        life.check()


def test_kept_is_replayed_whatever_happens(
    tiny: TinyPack, store: Store, make_runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, over random histories; and plain rounds replay nothing."""
    replays = itertools.count()
    read = scoring.scored_answers

    def counting(*arguments: Any, **named: Any) -> Any:
        next(replays)
        return read(*arguments, **named)

    monkeypatch.setattr(scoring, "scored_answers", counting)
    life = Life(store, tiny, make_runner, seed=1)
    live(life, times=2)
    before = next(replays)
    for _ in range(5):
        life.round()
        life.check()
    assert next(replays) == before + 1, "nothing has happened"


def test_scores_thrown_away_by_hand_come_back(tiny: TinyPack, store: Store, make_runner: Any) -> None:
    """Types that only their answers had are new again, although what is kept has seen them."""
    life = Life(store, tiny, make_runner, seed=3)
    for _ in range(3):
        for _ in range(3):
            life.round()
        with store.writing() as session:
            ids = session.scalars(select(ScoreRow.ask_id)).all()
            session.execute(delete(ScoreRow).where(ScoreRow.ask_id.in_(life.rng.sample(ids, len(ids) // 2))))
        life.round()
        life.check()


def test_a_store_from_before_goes_on(tiny: TinyPack, store: Store, make_runner: Any) -> None:
    life = Life(store, tiny, make_runner, seed=4)
    life.round()
    with store.engine.begin() as connection:
        command.downgrade(alembic_config(connection), "0003")
        assert not inspect(connection).has_table("standings")
        upgrade(connection)
    life.round()
    life.check()


def test_kept_is_replayed_on_postgresql(tiny: TinyPack, postgres_url: str, make_runner: Any) -> None:
    with open_store(postgres_url) as store:
        live(Life(store, tiny, make_runner, seed=2), times=1)
