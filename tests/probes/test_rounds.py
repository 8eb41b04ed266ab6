"""Rounds against a real HTTP endpoint: what is sent, what is stored, what it proves."""

import random
import threading
import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from probes import standing
from probes.store import Store
from probes.store.reading import evidence_types
from probes.store.tables import AnswerRow, AskRow, RoundRow, ScoreRow
from probes.targets import Answer, AskFailure
from probes.testing.endpoint import Fault, ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack
from tests.probes.conftest import Scripted


def rows(store: Store, table: Any) -> list[Any]:
    with store.reading() as session:
        return list(session.scalars(select(table)))


def states(store: Store) -> Counter[str]:
    return Counter(row.state for row in rows(store, AskRow))


def test_a_pirate_is_confirmed_and_an_innocent_is_not(tiny: TinyPack, make_runner: Any) -> None:
    with ScriptedEndpoint(tiny.pirate()) as endpoint:
        summary = make_runner(endpoint.url, name="pirate", clean_share=1.0).run()
        sent = Counter(question.image_sha256 for question in endpoint.questions)
    assert (summary.state, summary.planned, summary.answered, summary.scored) == ("complete", 16, 16, 8)
    assert sent == Counter(sha for row in tiny.pack.triggers for sha in (row.sha256, row.clean_sha256))
    assert summary.z > summary.threshold_z > 3.7
    assert summary.pvalue < 1e-20
    assert summary.log10_e > 6
    assert summary.verdict == "confirmed"
    assert abs(summary.control_z) < 4, "the clean photos of a pirate show nothing"

    with ScriptedEndpoint(tiny.innocent(seed=1)) as endpoint:
        innocent = make_runner(endpoint.url, name="innocent").run()
    assert innocent.verdict == "none"
    assert innocent.z < innocent.threshold_z
    assert innocent.log10_e < 0


def test_without_calibration_nothing_is_ever_confirmed(uncalibrated: TinyPack, make_runner: Any) -> None:
    with ScriptedEndpoint(uncalibrated.pirate()) as endpoint:
        summary = make_runner(endpoint.url, pack=uncalibrated).run()
    assert summary.log10_e is None
    assert summary.log10_e_independent > 6
    assert summary.verdict == "suspicious"


def test_the_intent_is_stored_before_the_send_and_the_answer_before_its_score(
    store: Store, make_runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Watching(Scripted):
        def ask(self, **question: Any) -> Answer:
            (open_ask,) = [row for row in rows(store, AskRow) if row.state == "intent"]
            seen.append(open_ask.trigger_id)
            return super().ask(**question)

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("the statistics have a bug")

    runner = make_runner(target=Watching("x ba do"))
    with monkeypatch.context() as patch:
        patch.setattr(standing, "score_new", breaks)
        with pytest.raises(RuntimeError):
            runner.run()
    assert len(set(seen)) == 8
    assert len(rows(store, AnswerRow)) == 8
    assert rows(store, ScoreRow) == []
    # the next round scores what is there, ends the broken round and sends nothing again
    summary = runner.run()
    assert (summary.state, summary.planned) == ("idle", 0)
    assert len(rows(store, ScoreRow)) == 8
    broken, idle = rows(store, RoundRow)
    assert [broken.state, idle.state] == ["partial", "idle"]
    # the clock of the broken round stopped at its last answer
    assert broken.finished_at == max(row.settled_at for row in rows(store, AskRow)) <= idle.started_at


def test_429_waits_as_asked_and_is_asked_again(tiny: TinyPack, store: Store, make_runner: Any) -> None:
    faults: list[Fault | None] = ["rate_limited", "rate_limited"]
    with ScriptedEndpoint(tiny.innocent(seed=1), faults=faults, retry_after="0.4") as endpoint:
        began = time.monotonic()
        summary = make_runner(endpoint.url, triggers_per_round=2).run()
        took = time.monotonic() - began
        assert len(endpoint.questions) == 4
    assert took >= 0.8
    assert (summary.state, summary.failures) == ("complete", {"rate_limited": 2})
    assert states(store) == {"failed": 2, "answered": 2}
    assert not any(row.final for row in rows(store, AskRow))
    assert sorted(row.attempt for row in rows(store, AskRow)) == [1, 1, 2, 3]


def test_a_retry_after_of_an_hour_is_left_to_the_next_round(tiny: TinyPack, make_runner: Any) -> None:
    with ScriptedEndpoint(tiny.innocent(seed=1), faults=["rate_limited"], retry_after="3600") as endpoint:
        summary = make_runner(endpoint.url, triggers_per_round=2).run()
        assert len(endpoint.questions) == 2
    assert (summary.state, summary.answered) == ("partial", 1)


def test_an_unreachable_endpoint_is_retried_and_then_left_alone(store: Store, make_runner: Any) -> None:
    with ScriptedEndpoint(lambda q: "") as endpoint:
        url = endpoint.url
    began = time.monotonic()
    summary = make_runner(url, triggers_per_round=1, attempts=2).run()
    assert time.monotonic() - began >= 1, "one second before the second attempt"
    assert summary.failures == {"connection": 2}
    assert [row.final for row in rows(store, AskRow)] == [False, True]
    # nothing was sent, so everything is still due; three questions without an answer are enough
    again = make_runner(url, attempts=1).run()
    assert (again.planned, again.failures) == (8, {"connection": 3})


IN_DOUBT: list[tuple[Fault, str]] = [
    ("http_500", "http"),
    ("reset", "interrupted"),
    ("hang", "timeout"),
    ("html", "not_json"),
    ("invalid_json", "not_json"),
    ("empty_choices", "not_chat"),
]


@pytest.mark.parametrize(("fault", "kind"), IN_DOUBT, ids=[row[0] for row in IN_DOUBT])
def test_what_may_have_been_answered_is_not_sent_again_within_its_cooldown(
    fault: Fault, kind: str, tiny: TinyPack, store: Store, make_runner: Any
) -> None:
    now = [1e9]
    with ScriptedEndpoint(tiny.innocent(seed=1), faults=[None, fault], hang_s=3) as endpoint:
        runner = make_runner(endpoint.url, clock=lambda: now[0], timeout_s=0.7)
        first = runner.run()
        assert (first.state, first.answered, first.failures) == ("partial", 7, {kind: 1})
        assert first.z is not None, "a partial round is a valid round"
        assert states(store) == {"answered": 7, "in_doubt": 1}
        now[0] += 3599
        assert runner.run().planned == 0
        assert len(endpoint.questions) == 8, "sent again within the cool-down"
        now[0] += 2
        assert runner.run().planned == 8
        sent = Counter(question.image_sha256 for question in endpoint.questions)
    assert set(sent.values()) == {2}


def test_refusals_are_neither_hits_nor_misses(tiny: TinyPack, store: Store, make_runner: Any) -> None:
    faults: list[Fault | None] = ["refusal", "content_filter", "truncated"]
    with ScriptedEndpoint(tiny.pirate(), faults=faults) as endpoint:
        summary = make_runner(endpoint.url).run()
    assert (summary.state, summary.refusals, summary.scored) == ("complete", 3, 5)
    assert Counter(row.kind for row in rows(store, AnswerRow)) == {
        "answer": 5,
        "refusal": 1,
        "content_filter": 1,
        "truncated": 1,
    }


def test_a_repeat_adds_only_its_new_types(tiny: TinyPack, store: Store, make_runner: Any) -> None:
    with ScriptedEndpoint(tiny.pirate()) as endpoint:
        runner = make_runner(endpoint.url, cooldown_s=1e-6)
        first, second = runner.run(), runner.run()
    assert second.z == pytest.approx(first.z), "the same answers again"
    assert second.log10_e == first.log10_e, "and no further evidence"
    assert [len(row.new_types) > 0 for row in rows(store, ScoreRow)] == [True] * 8 + [False] * 8


def test_the_evidence_is_the_same_however_it_is_replayed(
    tiny: TinyPack, store: Store, make_runner: Any
) -> None:
    with ScriptedEndpoint(tiny.pirate()) as endpoint:
        summary = make_runner(endpoint.url).run()
    answers = evidence_types(store, "suspect", pack_id="tiny")
    texts = {row.ask_id: row.text for row in rows(store, AnswerRow)}
    fresh = []
    for ask in rows(store, AskRow):
        tokens = tiny.scorer.types(ask.trigger_id, texts[ask.id])
        fresh.append((ask.trigger_id, [(t.id, bool(t.green)) for t in tokens]))
    from_rows = standing.evidence(tiny.pack, answers, policy=standing.policy_of(tiny.pack, alpha=None))
    from_texts = standing.evidence(tiny.pack, fresh, policy=standing.policy_of(tiny.pack, alpha=None))
    assert from_rows == from_texts
    assert from_rows.log_e is not None
    assert from_rows.log_e / 2.302585092994046 == pytest.approx(summary.log10_e)


def test_fresh_triggers_go_first_in_random_order(tiny: TinyPack, store: Store, make_runner: Any) -> None:
    runner = make_runner(target=Scripted("x ba do"), triggers_per_round=3, cooldown_s=1e-6)
    for _ in range(3):
        runner.run()
    sends = Counter(row.trigger_id for row in rows(store, AskRow))
    assert len(sends) == 8
    assert sum(sends.values()) == 9
    order = [row.trigger_id for row in rows(store, AskRow)][:8]
    # the chance that 8 random triggers come sorted is 1/8! = 2.5e-5
    assert order != sorted(order)


def test_a_target_is_asked_by_one_process_at_a_time(tiny: TinyPack, make_runner: Any) -> None:
    with ScriptedEndpoint(tiny.innocent(seed=1), delay_s=0.2) as endpoint:
        slow, other = make_runner(endpoint.url), make_runner(endpoint.url)
        thread = threading.Thread(target=slow.run)
        thread.start()
        while not endpoint.questions:
            time.sleep(0.01)
        assert other.run() is None
        thread.join(timeout=30)
        assert len(endpoint.questions) == 8


def test_a_stop_ends_the_round_after_the_question_on_its_way(
    tiny: TinyPack, store: Store, make_runner: Any
) -> None:
    stop = threading.Event()

    class Stopping(Scripted):
        def ask(self, **question: Any) -> Answer:
            stop.set()
            return super().ask(**question)

    summary = make_runner(target=Stopping("x ba do"), stop=stop).run()
    assert (summary.state, summary.answered, summary.planned) == ("partial", 1, 8)
    assert states(store) == {"answered": 1}


def test_what_takes_seconds_is_loaded_before_anything_is_intended(store: Store, make_runner: Any) -> None:
    class Killed(Scripted):
        def prepare(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_runner(target=Killed("x ba do")).run()
    assert rows(store, AskRow) == []


def test_ctrl_c_while_waiting_puts_the_question_in_doubt(store: Store, make_runner: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_runner(target=Scripted(KeyboardInterrupt())).run()
    (row,) = rows(store, AskRow)
    assert (row.state, row.failure) == ("in_doubt", "stopped")
    summary = make_runner(target=Scripted("x ba do")).run()
    assert summary is not None, "the lease was given back"
    assert summary.planned == 7


def test_a_wrong_credential_is_not_tried_on_every_trigger(make_runner: Any) -> None:
    failure = AskFailure(target="suspect", reason="no", kind="auth", in_doubt=False, status=401)
    target = Scripted(failure)
    assert make_runner(target=target).run().failures == {"auth": 1}
    assert target.asked == 1


def test_innocents_are_rarely_confirmed(tiny: TinyPack) -> None:
    """200 innocents at alpha .01: at most 6 confirmed.

    Each is confirmed with probability at most .01, so more than 6 come with probability below
    P(Binomial(200, .01) > 6) = .005; the seed is fixed.
    """
    confirmed, policy = 0, standing.policy_of(tiny.pack, alpha=0.01)
    for seed in range(200):
        rng = random.Random(f"soak {seed}")
        answers = []
        for row in tiny.pack.triggers:
            text = "x " + " ".join(rng.sample(tiny.words, 30))
            _, new, _ = standing.score_new(tiny.scorer, row.id, text, seen=set())
            answers.append((row.id, [(token, bool(green)) for token, green in new]))
        confirmed += standing.evidence(tiny.pack, answers, policy=policy).verdict == "confirmed"
    assert confirmed <= 6
