"""The chain that the store keeps: every settled ask a link, bodies as they came, whatever went wrong."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from probes.store import Store, open_store
from probes.store.chain import read_chain
from probes.store.migrate import alembic_config
from probes.targets import Answer, AskFailure
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack
from sif_offline.fingerprint.evidence.transcript import Exchange, chain_faults


def chain(store: Store, target: str = "suspect") -> tuple[Exchange, ...]:
    return read_chain(store.reading(), target, pack_id="tiny")


class Hostile:
    """Replies that are hard to store: lone surrogates, NaN, huge integers, NUL."""

    name, model = "suspect", "hostile"
    api_base: str | None = None
    system_prompt: str | None = None

    def prepare(self) -> None:
        """Nothing to load."""

    def ask(self, *, image: bytes | None, prompt: str, max_tokens: int) -> Answer:
        message = {"content": "x ba do \x00"}
        raw = {"choices": [{"message": message}], "id": "\ud800", "n": float("nan"), "big": 2**80}
        return Answer("x ba do \x00", "stop", "m", 0.01, raw=raw)


def test_every_settled_ask_is_a_link_in_order_of_arrival(
    tiny: TinyPack, store: Store, make_runner: Any
) -> None:
    faults = [None, "html", "rate_limited", None]
    with ScriptedEndpoint(tiny.pirate(), faults=faults) as endpoint:
        make_runner(endpoint.url, attempts=1, clean_share=0.5, cooldown_s=0.0).run()
        make_runner(endpoint.url, attempts=1, cooldown_s=0.0).run()
    links = chain(store)
    assert chain_faults(links) == []
    assert len(links) == 20
    assert [link.record.outcome for link in links[:4]] == [
        "answer",
        "in_doubt:not_json",
        "failed:rate_limited",
        "answer",
    ]
    assert {link.record.round for link in links} == {1, 2}
    assert [link.record.asked_at for link in links] == sorted(link.record.asked_at for link in links)
    assert links[0].asked["endpoint"] == endpoint.url
    assert links[0].asked["prompt"] == tiny.pack.triggers[0].prompt
    assert json.loads(links[0].response or "")["raw"]["choices"][0]["message"]["content"] == links[0].text
    assert links[1].text is None


def test_chains_of_two_targets_do_not_mix(tiny: TinyPack, store: Store, make_runner: Any) -> None:
    with ScriptedEndpoint(tiny.innocent(seed=1)) as endpoint:
        runners = [make_runner(endpoint.url, name=name) for name in ("one", "two")]
        threads = [threading.Thread(target=runner.run) for runner in runners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    for name in ("one", "two"):
        assert chain_faults(chain(store, name)) == []
        assert len(chain(store, name)) == 8
        assert {link.record.target for link in chain(store, name)} == {name}


def test_a_hostile_reply_is_kept_and_chained(store: Store, make_runner: Any) -> None:
    assert make_runner(target=Hostile(), triggers_per_round=3).run().answered == 3
    links = chain(store)
    assert chain_faults(links) == []
    assert "\\ud800" in (links[0].response or "")


def test_a_crash_leaves_a_link_that_says_so(store: Store, make_runner: Any) -> None:
    class Dies(Hostile):
        def ask(self, **_: Any) -> Answer:
            raise MemoryError

    class Fails(Hostile):
        def ask(self, **_: Any) -> Answer:
            raise AskFailure(target="suspect", reason="down", kind="connection", in_doubt=False)

    with pytest.raises(MemoryError):
        make_runner(target=Dies()).run()
    make_runner(target=Fails(), attempts=1).run()
    outcomes = [link.record.outcome for link in chain(store)]
    assert outcomes[0] == "in_doubt:stopped"
    assert set(outcomes[1:]) == {"failed:connection"}
    assert chain_faults(chain(store)) == []


def test_a_changed_row_breaks_the_chain(tiny: TinyPack, store: Store, make_runner: Any) -> None:
    with ScriptedEndpoint(tiny.pirate()) as endpoint:
        make_runner(endpoint.url).run()
    with store.engine.begin() as connection:
        connection.execute(text("update chain set response = replace(response, 'x', 'y') where position = 2"))
    assert chain_faults(chain(store)) == ["exchange 2: response does not match its digest"]
    with store.engine.begin() as connection:
        connection.execute(text("update chain set response = null where position = 2"))
    assert chain_faults(chain(store)) == [], "a body that retention dropped leaves the chain whole"
    with store.engine.begin() as connection:
        connection.execute(text("delete from chain where position = 3"))
    assert "exchange 3: has index 4" in chain_faults(chain(store))


def test_a_store_from_before_the_chain_is_brought_up(
    tmp_path: Path, tiny: TinyPack, make_runner: Any
) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    with create_engine(url).begin() as connection:
        command.upgrade(alembic_config(connection), "0001")
        connection.execute(
            text(
                "insert into rounds (id, target, pack_id, state, started_at, planned, answered, scored) "
                "values (1, 'suspect', 'tiny', 'running', 1, 1, 0, 0)"
            )
        )
        connection.execute(
            text(
                "insert into asks (round_id, target, pack_id, trigger_id, control, attempt, image_sha256, "
                "prompt, max_tokens, state, final, intended_at) "
                f"values (1, 'suspect', 'tiny', 't00', 0, 1, '{'0' * 64}', '?', 8, 'intent', 0, 1)"
            )
        )
    with open_store(url) as store:
        store.recover("suspect", pack_id="tiny", now=2.0)
        (link,) = chain(store)
    assert link.record.outcome == "in_doubt:crash"
    assert chain_faults((link,)) == []
