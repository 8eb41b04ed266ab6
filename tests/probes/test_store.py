"""The store: migrations, leases, intents."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from probes.store import LeaseLostError, Store, StoreError, open_store
from probes.store.lease import is_dead, new_holder
from probes.store.limits import Held
from probes.store.migrate import newest_revision
from probes.store.tables import AskRow, Base, RoundRow, TallyRow
from probes.store.tallies import recount
from probes.targets import Answer
from tests.probes.rows import ask_row, begin, failure


def test_the_migrations_make_the_schema_of_the_code(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        found = connection.execute(text("select version_num from alembic_version")).scalar_one()
        indexes = {index["name"]: index for index in inspect(connection).get_indexes("asks")}
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    assert found == newest_revision()
    assert indexes["uq_asks_open_intent"]["dialect_options"]["sqlite_where"].text == "state = 'intent'"
    assert mode == "wal"


def test_opening_twice_changes_nothing_and_a_newer_store_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.sqlite'}"
    open_store(url).close()
    with open_store(url) as again, again.engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(StoreError, match=r"s\.sqlite: .*9999"):
        open_store(url)


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        open_store(f"sqlite:///{tmp_path / 'absent' / 's.sqlite'}")
    (tmp_path / "text.sqlite").write_text("this is no database" * 100)
    with pytest.raises(StoreError, match=r"text\.sqlite: file is not a database"):
        open_store(f"sqlite:///{tmp_path / 'text.sqlite'}")
    for url in ("nosuchdb://me:secret@host/db", "secret"):
        with pytest.raises(StoreError, match=r"^store: ") as caught:
            open_store(url)
        assert "secret@" not in str(caught.value)


def test_a_lease_is_held_given_back_and_runs_out(store: Store) -> None:
    mine, other = new_holder(), new_holder()
    assert store.take_lease("suspect", holder=mine, now=100, ttl_s=60)
    assert not store.take_lease("suspect", holder=other, now=101, ttl_s=60)
    assert store.take_lease("another", holder=other, now=101, ttl_s=60)
    store.give_back_lease("suspect", holder=other)
    assert not store.take_lease("suspect", holder=other, now=102, ttl_s=60), "only the holder gives back"
    store.give_back_lease("suspect", holder=mine)
    assert store.take_lease("suspect", holder=other, now=103, ttl_s=60)
    assert store.take_lease("suspect", holder=mine, now=164, ttl_s=60), "it ran out"


def test_a_lease_dies_with_its_process(store: Store) -> None:
    code = "from probes.store.lease import new_holder; print(new_holder())"
    dead = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    assert is_dead(dead)
    assert not is_dead(new_holder())
    host, _, _, rest = new_holder().split("|")
    assert is_dead(f"{host}|{os.getpid()}|1|{rest}"), "another process had our pid before us"
    assert not is_dead(f"elsewhere|{os.getpid()}|1|{rest}"), "nothing is known about another host"
    assert store.take_lease("suspect", holder=dead, now=100, ttl_s=1e6)
    assert store.take_lease("suspect", holder=new_holder(), now=101, ttl_s=60)


def test_an_intent_needs_the_lease_and_a_cooled_trigger(store: Store) -> None:
    holder, round_id = begin(store)
    limits = {"holder": holder, "ttl_s": 60.0, "cooldown_s": 100.0}
    first = store.intend(ask_row(round_id, at=1), **limits)
    assert isinstance(first, int)
    assert store.intend(ask_row(round_id, at=2), **limits) == Held("cooldown"), "it is on its way"
    clean = store.intend(ask_row(round_id, at=2, control=True), **limits)
    assert isinstance(clean, int), "the clean one is not"
    store.settle_answer(first, Answer("a", "stop", "m", 0.1), kind="answer", now=3)
    assert store.intend(ask_row(round_id, at=100), **limits) == Held("cooldown"), "within the cool-down"
    later = store.intend(ask_row(round_id, at=102), **limits)
    assert isinstance(later, int)
    store.settle_failure(later, failure(in_doubt=True), final=True, now=103)
    assert store.intend(ask_row(round_id, at=104), **limits) == Held("cooldown"), "it may have been answered"
    with pytest.raises(LeaseLostError, match="target suspect: another process has taken over"):
        store.intend(ask_row(round_id, at=500), **limits | {"holder": new_holder()})


def test_what_certainly_failed_may_go_again(store: Store) -> None:
    holder, round_id = begin(store)
    limits = {"holder": holder, "ttl_s": 60.0, "cooldown_s": 100.0}
    first = store.intend(ask_row(round_id, at=1), **limits)
    assert isinstance(first, int)
    store.settle_failure(first, failure(in_doubt=False), final=False, now=2)
    assert store.last_sends("suspect", pack_id="tiny", control=False) == {}
    assert isinstance(store.intend(ask_row(round_id, at=3), **limits), int)


def test_two_open_intents_of_one_trigger_cannot_exist(store: Store) -> None:
    """Even without any cool-down the database itself refuses."""
    holder, round_id = begin(store)
    limits = {"holder": holder, "ttl_s": 60.0, "cooldown_s": 0.0}
    assert isinstance(store.intend(ask_row(round_id, at=1), **limits), int)
    assert store.intend(ask_row(round_id, at=2), **limits) == Held("cooldown")


def test_recovery_puts_open_intents_in_doubt(store: Store) -> None:
    holder, round_id = begin(store)
    assert isinstance(store.intend(ask_row(round_id, at=1), holder=holder, ttl_s=60, cooldown_s=100), int)
    assert store.recover("suspect", pack_id="tiny", now=50) == [round_id]
    with store.reading() as session:
        (row,) = session.query(AskRow).all()
    assert (row.state, row.failure, row.final, row.settled_at) == ("in_doubt", "crash", True, 50)


def test_a_round_that_another_process_has_closed_is_not_closed_again(store: Store) -> None:
    _, round_id = begin(store)
    store.finish_round(round_id, state="partial", finished_at=5.0, z=2.0)
    store.finish_round(round_id, state="complete", finished_at=9.0, z=3.0)
    with store.reading() as session:
        row = session.get_one(RoundRow, round_id)
        tallies = {row.name: row.value for row in session.query(TallyRow)}
    assert (row.state, row.finished_at, row.z) == ("partial", 5.0, 2.0)
    assert tallies["rounds"] == 1


def test_an_answer_that_comes_after_its_ask_was_given_up_is_one_trial(store: Store) -> None:
    holder, round_id = begin(store)
    ask_id = store.intend(ask_row(round_id, at=1), holder=holder, ttl_s=60, cooldown_s=100)
    assert isinstance(ask_id, int)
    store.recover("suspect", pack_id="tiny", now=50)
    store.settle_answer(ask_id, Answer("I cannot help.", "stop", "m", 0.1), kind="refusal", now=60)
    kept = nonzero(store)
    with store.engine.begin() as connection:
        recount(connection)
    assert kept == nonzero(store) == {"outcome/refusal": 1.0, "error/crash": 1.0}


def nonzero(store: Store) -> dict[str, float]:
    with store.reading() as session:
        return {row.name: row.value for row in session.query(TallyRow) if row.value}
