"""Two real services on one PostgreSQL, scheduled by DBOS."""

import time
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from probes.store import open_store
from probes.store.chain import read_chain
from probes.store.tables import AskRow
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack
from sif_offline.fingerprint.evidence.transcript import chain_faults
from tests.probes.test_service import start

TARGETS = ("a", "b", "c")


@pytest.mark.timeout(180)
def test_two_services_share_the_work_and_send_nothing_twice(
    tiny: TinyPack, write_config: Any, postgres_url: str
) -> None:
    with ScriptedEndpoint(tiny.innocent(seed=1)) as endpoint:
        config = write_config(
            {name: f"{endpoint.url}/{name}" for name in TARGETS},
            store=postgres_url,
            interval=2,
            jitter=1,
            triggers_per_round=1,
        )
        services = []
        try:
            services += [start(config)]
            services += [start(config)]
            deadline = time.monotonic() + 120
            while len(endpoint.questions) < 15:
                assert time.monotonic() < deadline, f"only {len(endpoint.questions)} questions"
                time.sleep(0.2)
            for _, url in services:
                text = httpx.get(f"{url}/metrics", timeout=10).text
                assert all(f'sif_probe_interval_seconds{{monitor="{name}"' in text for name in TARGETS)
            for process, _ in services:
                process.terminate()
            said = [process.communicate(timeout=60)[1] for process, _ in services]
        finally:
            for process, _ in services:
                process.kill()
        assert [process.returncode for process, _ in services] == [0, 0], said
        assert "Traceback" not in "".join(said)
        received = len(endpoint.questions)
    with open_store(postgres_url) as store, store.reading() as session:
        asks = session.scalars(select(AskRow)).all()
        chains = {name: read_chain(store.reading(), name, pack_id="tiny") for name in TARGETS}
    assert len(asks) == received
    assert len({(ask.target, ask.trigger_id) for ask in asks}) == received, "a trigger went out twice"
    assert min(map(len, chains.values())) >= 3, "a target was left out"
    assert all(chain_faults(chain) == [] for chain in chains.values())
