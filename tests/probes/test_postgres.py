"""The store and the replicas on a real PostgreSQL, where writers do not wait for each other."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

from benchmarks.probes.replicas import measure
from probes.rounds import RoundSettings, sif_runner
from probes.store import LeaseLostError, Store, StoreError, open_store
from probes.store.chain import read_chain
from probes.store.lease import new_holder
from probes.store.limits import Held
from probes.store.migrate import newest_revision
from probes.store.tables import AskRow, Base, RoundRow, TargetRow
from probes.targets import Answer
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.plain_target import PlainTarget
from probes.testing.tiny_pack import TinyPack
from sif_offline.fingerprint.evidence.transcript import chain_faults
from tests.probes.rows import ask_row, begin

RACERS = 8


@pytest.fixture
def pg_store(postgres_url: str) -> Iterator[Store]:
    with open_store(postgres_url) as opened:
        yield opened


def target_row(name: str) -> TargetRow:
    return TargetRow(
        name=name,
        model="openai/x",
        authorised_by="the test",
        purpose="a test",
        pack_id="tiny",
        interval_s=60,
        alpha=1e-6,
        updated_at=0,
    )


def race(run: Callable[[int], Any]) -> list[Any]:
    """What each of several threads got that did the same at once; their errors too."""
    barrier, results = threading.Barrier(RACERS), [None] * RACERS

    def racer(number: int) -> None:
        barrier.wait(10)
        try:
            results[number] = run(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=racer, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_the_migrations_make_the_schema_of_the_code(pg_store: Store) -> None:
    with pg_store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        found = connection.execute(text("select version_num from alembic_version")).scalar_one()
        indexes = {index["name"]: index for index in inspect(connection).get_indexes("asks")}
    assert found == newest_revision()
    assert indexes["uq_asks_open_intent"]["unique"]
    assert "intent" in indexes["uq_asks_open_intent"]["dialect_options"]["postgresql_where"]


def test_replicas_may_start_at_once_on_an_empty_database(postgres_url: str) -> None:
    replicas = [
        subprocess.Popen(
            [sys.executable, "-c", OPENS, postgres_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for replica in replicas:
        assert replica.stdout is not None
        assert replica.stdout.readline() == "ready\n"
    for replica in replicas:
        assert replica.stdin is not None
        replica.stdin.write("go\n")
        replica.stdin.flush()
    ended = [replica.communicate(timeout=60) for replica in replicas]
    assert [(replica.returncode, said) for replica, (_, said) in zip(replicas, ended, strict=True)] == [
        (0, "")
    ] * 4


OPENS = """
import sys
import psycopg
from probes.store import open_store
open_store("sqlite://").close()  # everything is imported now
print("ready", flush=True)
sys.stdin.readline()
open_store(sys.argv[1]).close()
"""


def test_a_server_that_is_not_there_is_said_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^store .*") as caught:
        open_store(f"postgresql+psycopg://me:secret@/db?host={tmp_path}")
    assert "secret" not in str(caught.value)


def test_of_many_that_want_a_lease_one_gets_it(pg_store: Store) -> None:
    def take(number: int) -> bool:
        return pg_store.take_lease("suspect", holder=f"elsewhere|{number}|1|x", now=100, ttl_s=60)

    assert sorted(race(take)) == [False] * (RACERS - 1) + [True], "there was no lease"
    with pg_store.engine.begin() as connection:
        connection.execute(text("update leases set expires_at = 99"))
    assert sorted(race(take)) == [False] * (RACERS - 1) + [True], "one had run out"


def test_a_lease_ends_with_its_process_here_and_by_its_time_elsewhere(pg_store: Store) -> None:
    code = "from probes.store.lease import new_holder; print(new_holder())"
    dead = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).strip()
    assert pg_store.take_lease("here", holder=dead, now=100, ttl_s=60)
    assert pg_store.take_lease("here", holder=new_holder(), now=100, ttl_s=60), "its process is gone"
    pid, started = dead.split("|")[1:3]
    assert pg_store.take_lease("there", holder=f"elsewhere|{pid}|{started}|x", now=100, ttl_s=5)
    assert not pg_store.take_lease("there", holder=new_holder(), now=104.9, ttl_s=5), "it may live"
    assert pg_store.take_lease("there", holder=new_holder(), now=105.1, ttl_s=5)


def test_a_lease_that_a_wrong_clock_took_holds_nobody_up(pg_store: Store) -> None:
    """A year ahead, on a host that is gone: nobody waits for a year."""
    assert pg_store.take_lease("suspect", holder="elsewhere|1|1|x", now=3e7, ttl_s=60)
    assert not pg_store.take_lease("suspect", holder=new_holder(), now=3e7 - 59, ttl_s=60), "a little off"
    assert pg_store.take_lease("suspect", holder=new_holder(), now=100, ttl_s=60)


def test_replicas_that_record_a_target_at_once_all_do(pg_store: Store) -> None:
    for attempt in range(5):
        row = f"suspect-{attempt}"
        assert race(lambda _, row=row: pg_store.record_target(target_row(row))) == [None] * RACERS


def test_who_lost_its_lease_sends_nothing_more(pg_store: Store) -> None:
    """A replica on another host was thought dead, and was only slow."""
    slow, round_id = begin(pg_store)
    limits = {"ttl_s": 60.0, "cooldown_s": 100.0}
    open_ask = pg_store.intend(ask_row(round_id, at=1), holder=slow, **limits)
    assert isinstance(open_ask, int)
    assert pg_store.take_lease("suspect", holder=new_holder(), now=62, ttl_s=60)
    assert pg_store.recover("suspect", pack_id="tiny", now=62) == [round_id]
    with pytest.raises(LeaseLostError):
        pg_store.intend(ask_row(round_id, at=63, trigger="t01"), holder=slow, **limits)
    # the answer that came late is kept all the same
    pg_store.settle_answer(open_ask, Answer("late", "stop", "m", 61.0), kind="answer", now=64)
    with pg_store.reading() as session:
        states = list(session.scalars(select(AskRow.state)))
    assert states == ["answered"]
    assert chain_faults(read_chain(pg_store.reading(), "suspect", pack_id="tiny")) == []


@pytest.mark.parametrize("cooldown_s", [0.0, 100.0])
def test_of_many_intents_for_one_trigger_one_is_committed(pg_store: Store, cooldown_s: float) -> None:
    holder, round_id = begin(pg_store)

    def intend(number: int) -> int | Held:
        return pg_store.intend(ask_row(round_id, at=1), holder=holder, ttl_s=60, cooldown_s=cooldown_s)

    results = race(intend)
    assert results.count(Held("cooldown")) == RACERS - 1, results
    assert sum(isinstance(result, int) for result in results) == 1, results


def test_answers_that_settle_at_once_are_all_in_one_chain(pg_store: Store) -> None:
    holder, round_id = begin(pg_store)
    pg_store.record_target(target_row("suspect"))
    asks = [
        pg_store.intend(ask_row(round_id, at=1, trigger=f"t{n}"), holder=holder, ttl_s=60, cooldown_s=1)
        for n in range(RACERS)
    ]

    def settle(number: int) -> None:
        ask = asks[number]
        assert isinstance(ask, int)
        pg_store.settle_answer(ask, Answer(f"answer {number}", "stop", "m", 0.1), kind="answer", now=2)

    assert race(settle) == [None] * RACERS
    links = read_chain(pg_store.reading(), "suspect", pack_id="tiny")
    assert len(links) == RACERS
    assert chain_faults(links) == []


def test_a_clock_that_goes_back_sends_nothing_twice_and_rounds_go_on(pg_store: Store, tiny: TinyPack) -> None:
    now = 100_000.0
    with ScriptedEndpoint(tiny.innocent(seed=1)) as endpoint:
        runner = sif_runner(
            target=PlainTarget(name="suspect", url=endpoint.url),
            scorer=tiny.scorer,
            store=pg_store,
            settings=RoundSettings(
                triggers_per_round=4, clean_share=0, cooldown_s=1000, alpha=1e-6, attempts=1, timeout_s=5
            ),
            clock=lambda: now,
        )

        def round_() -> tuple[str, int]:
            before = len(endpoint.questions)
            summary = runner.run()
            assert summary is not None
            return summary.state, len(endpoint.questions) - before

        assert round_() == ("complete", 4)
        now -= 3600
        assert round_() == ("complete", 4), "the triggers that were not sent yet"
        assert round_() == ("idle", 0), "what was sent an hour ahead is cooling down too"
        now += 1001
        assert round_() == ("complete", 4), "what was sent after the clock was set"
        now = 101_001.0
        assert round_() == ("complete", 4)
        sent = [tiny.trigger_of[question.image_sha256] for question in endpoint.questions]
    assert len(set(sent[:8])) == 8
    assert {sent.count(trigger) for trigger in sent} == {2}
    with pg_store.reading() as session:
        rounds = list(session.scalars(select(RoundRow)))
    assert [row.state for row in rounds] == ["complete", "complete", "idle", "complete", "complete"]


@pytest.mark.timeout(180)
def test_replicas_send_no_trigger_twice_also_when_they_are_killed(postgres_url: str, tmp_path: Path) -> None:
    """Thirty rounds of what ``benchmarks.probes.replicas`` does five hundred of."""
    result = measure(
        tmp_path, postgres_url, rounds=30, targets=4, replicas=2, kills=2, interval_s=1.0, seed=6, limit_s=150
    )
    assert result.rounds >= 30
    assert result.kills == 2
    assert min(result.by_replica) >= 1, "one replica did all the work"
    assert result.sends > 60
    assert result.answered + result.in_doubt >= result.sends
    assert (result.sent_twice, result.without_intent, result.unaccounted) == (0, 0, 0)
    assert (result.overlapping, result.chain_faults) == (0, 0)
