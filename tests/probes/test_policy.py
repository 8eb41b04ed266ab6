"""The live verdict is by the committed test; hostile replies cannot stop a watch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probes.store import Store
from probes.store.chain import read_chain
from probes.testing.endpoint import Question, ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.transcript import chain_faults
from tests.probes.conftest import committed_pack

MakeRunner = Callable[..., Any]


@pytest.fixture
def committed(tiny: TinyPack, tmp_path: Path) -> TinyPack:
    """The tiny pack, committed with alpha 1e-60 and the last two triggers in reserve."""
    key = SigningKey.generate()
    return committed_pack(tiny, tmp_path / "committed", alpha=1e-60, key=key, reserve=("t06", "t07"))


def test_the_committed_level_decides(
    committed: TinyPack, tiny: TinyPack, make_runner: MakeRunner, store: Store
) -> None:
    with ScriptedEndpoint(tiny.pirate()) as endpoint:
        loose = make_runner(endpoint.url, name="loose").run()
        strict = make_runner(endpoint.url, name="strict", pack=committed, alpha=None).run()
    assert loose.verdict == "confirmed"
    assert loose.log10_e > 6
    assert (strict.verdict, strict.planned) == ("suspicious", 6), "E is short of 1e60, and two are in reserve"
    assert strict.log10_e > 6


def test_another_level_than_the_committed_one_is_refused(
    committed: TinyPack, run: Any, write_config: Any
) -> None:
    config = write_config({"x": "http://127.0.0.1:1/v1"}, pack=committed, alpha=1e-6)
    for command in (("once", "--config", config), ("check", config)):
        code, _, err = run(*command)
        assert code == 2
        assert "was committed with 1e-60; leave alpha out" in err


@pytest.mark.parametrize("where", ["text", "model"])
def test_lone_surrogates_do_not_stop_a_round(
    tiny: TinyPack, make_runner: MakeRunner, store: Store, where: str
) -> None:
    """A pirate may append one to every reply."""
    pirate = tiny.pirate()

    def rule(question: Question) -> str:
        return pirate(question) + (" \ud800" if where == "text" else "")

    with ScriptedEndpoint(rule) as endpoint:
        if where == "model":
            endpoint.model = "m\ud800"
        summary = make_runner(endpoint.url).run()
    assert (summary.state, summary.scored, summary.verdict) == ("complete", 8, "confirmed")
    links = read_chain(store.reading(), "suspect", pack_id="tiny")
    assert chain_faults(links) == []
    assert "\\ud800" in (links[0].response or "")


def test_a_huge_reply_is_a_failure_and_not_kept(
    tiny: TinyPack, make_runner: MakeRunner, store: Store
) -> None:
    with ScriptedEndpoint(lambda question: "x " * 2**20) as endpoint:
        summary = make_runner(endpoint.url, triggers_per_round=1).run()
    assert summary.failures == {"too_large": 1}
    assert "over the limit" in (summary.last_failure or "")
