"""Running totals are what counting everything anew would give."""

from typing import Any

import pytest
from sqlalchemy import select

from probes.store import Store, open_store
from probes.store.tables import TallyRow
from probes.store.tallies import recount
from probes.testing.endpoint import Fault, ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack
from tests.probes.conftest import Scripted

FAULTS: list[Fault | None] = [
    None,
    "refusal",
    "http_500",
    "rate_limited",
    None,
    "reset",
    "content_filter",
    "truncated",
    None,
    "unauthorized",
]


def tallies(store: Store) -> dict[tuple[str, str], float]:
    with store.reading() as session:
        rows = session.scalars(select(TallyRow).where(TallyRow.value != 0))
        return {(row.target, row.name): pytest.approx(row.value) for row in rows}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_totals_kept_are_totals_counted(
    database: str, store: Store, tiny: TinyPack, make_runner: Any, request: pytest.FixtureRequest
) -> None:
    """Answers, refusals, failures, an interruption, idle rounds; two targets."""
    if database == "postgresql":
        with open_store(request.getfixturevalue("postgres_url")) as opened:
            check(opened, tiny, lambda *a, **k: make_runner(*a, store=opened, **k))
    else:
        check(store, tiny, make_runner)


def check(store: Store, tiny: TinyPack, make_runner: Any) -> None:
    with (
        ScriptedEndpoint(tiny.pirate(), faults=FAULTS, retry_after="0") as pirate,
        ScriptedEndpoint(tiny.innocent(seed=2)) as innocent,
    ):
        for share in (0.0, 1.0, 1.0):  # the refusal comes to a trigger: photos have no outcome to count
            make_runner(pirate.url, name="pirate", clean_share=share, triggers_per_round=3, attempts=2).run()
        make_runner(innocent.url, name="innocent").run()
        make_runner(innocent.url, name="innocent").run()  # idle: nothing is due
    now = 1e10

    dies = Scripted(KeyboardInterrupt())
    dies.name = "pirate"
    with pytest.raises(KeyboardInterrupt):
        make_runner(target=dies, clock=lambda: now).run()
    make_runner(innocent.url, name="pirate", clock=lambda: now + 1, attempts=1).run()
    kept = tallies(store)
    assert {name for target, name in kept if target == "pirate"} >= {
        "outcome/hit",
        "outcome/refusal",
        "outcome/error",
        "error/http",
        "error/stopped",
        "error/connection",
        "tokens/prompt",
        "rounds",
        "last/scored",
    }
    with store.engine.begin() as connection:
        recount(connection)
    assert tallies(store) == kept
