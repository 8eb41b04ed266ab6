"""kill -9 at random points of a round: no answer is lost, no trigger is sent twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from probes import standing
from probes.store import open_store
from probes.store.chain import read_chain
from probes.store.reading import evidence_types
from probes.store.tables import AnswerRow, AskRow, RoundRow, ScoreRow
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import build_tiny_pack
from sif_offline.fingerprint.evidence.transcript import chain_faults

KILLS = 10
# the same round as `sif-probes once` runs, without the seconds that importing litellm takes
ROUND = """
import sys
from pathlib import Path
from probes.config import load_config
from probes.rounds import RoundRunner
from probes.store import open_store
from probes.testing.plain_target import PlainTarget
from probes.material import open_pack, round_settings
config = load_config(Path(sys.argv[1]))
(target,) = config.targets
RoundRunner(
    target=PlainTarget(name=target.name, url=target.api_base),
    scorer=open_pack(config.pack, config.trigger_keys)[1],
    store=open_store(config.store),
    settings=round_settings(config, target),
).run()
"""


@pytest.mark.timeout(600)
def test_killed_rounds_lose_nothing_and_send_nothing_twice(tmp_path: Path, write_config: Any) -> None:
    tiny = build_tiny_pack(tmp_path / "big", triggers=80)
    rng = random.Random(20261122)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with ScriptedEndpoint(tiny.pirate(), delay_s=0.02) as endpoint:
        config = write_config({"suspect": endpoint.url}, pack=tiny, triggers_per_round=80)
        for _ in range(KILLS):
            before = len(endpoint.questions)
            enough = before + rng.randint(1, 6)
            process = subprocess.Popen(
                [sys.executable, "-c", ROUND, str(config)], env=environment, stdout=subprocess.DEVNULL
            )
            # from here on at any moment: while sending, waiting, storing or about to send
            while len(endpoint.questions) < enough:
                assert process.poll() is None, "the round ended before it was killed"
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.06))
            process.kill()
            assert process.wait(timeout=30) == -signal.SIGKILL
        last = subprocess.run(
            [sys.executable, "-c", ROUND, str(config)], env=environment, capture_output=True, timeout=120
        )
        assert last.returncode == 0, last.stderr
        received = Counter(tiny.trigger_of[question.image_sha256] for question in endpoint.questions)

    assert set(received.values()) == {1}, "a trigger was sent twice"
    with open_store(f"sqlite:///{tmp_path / 'sif-probes.sqlite'}") as store:
        with store.reading() as session:
            asks = list(session.scalars(select(AskRow)))
            answers = list(session.scalars(select(AnswerRow)))
            scores = list(session.scalars(select(ScoreRow)))
            rounds = list(session.scalars(select(RoundRow).order_by(RoundRow.id)))
        links = read_chain(store.reading(), "suspect", pack_id="tiny")
        evidence = standing.evidence(
            tiny.pack,
            evidence_types(store, "suspect", pack_id="tiny"),
            policy=standing.policy_of(tiny.pack, alpha=None),
        )
    by_state = Counter(ask.state for ask in asks)
    assert set(by_state) <= {"answered", "in_doubt"}
    assert by_state["in_doubt"] <= KILLS, "more in doubt than were on their way when we killed"
    assert {ask.trigger_id for ask in asks} >= set(received), "a question was sent without an intent"
    # every trigger is accounted for: answered, or in doubt and left alone
    assert Counter(ask.trigger_id for ask in asks) == Counter(row.id for row in tiny.pack.triggers)
    assert {answer.ask_id for answer in answers} == {ask.id for ask in asks if ask.state == "answered"}
    assert {score.ask_id for score in scores} == {answer.ask_id for answer in answers}
    assert [row.state for row in rounds[:-1]] == ["partial"] * KILLS
    assert rounds[-1].log_e == evidence.log_e
    assert evidence.verdict == "confirmed"
    assert chain_faults(links) == []
    assert [link.record.outcome for link in links].count("answer") == len(answers)
    assert len(links) == len(asks)
