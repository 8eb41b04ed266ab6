"""What becomes of stored answers: scored again, exported, dropped, made into a bundle."""

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import event, func, select, update

from probes.config import load_config
from probes.scheduling import APSchedulerScheduler
from probes.store import Store, StoreError, open_store
from probes.store.chain import read_chain
from probes.store.lease import new_holder
from probes.store.reading import evidence_types, last_rounds
from probes.store.retention import drop_answers
from probes.store.tables import AnswerRow, RoundRow, ScoreRow
from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack
from probes.watch import Watch
from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.evidence.bundle import Bundle
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.transcript import chain_faults
from sif_offline.fingerprint.evidence.verification import verify_bundle
from tests.probes.conftest import committed_pack


@pytest.fixture
def committed(tiny: TinyPack, tmp_path: Path) -> TinyPack:
    """The tiny pack, committed with what its calibration supports."""
    key = SigningKey.generate()
    key.write(tmp_path / "signer.pem")
    return committed_pack(tiny, tmp_path / "committed", alpha=1e-6, key=key)


def test_a_confirmed_targets_bundle_is_written_by_itself_and_verifies(
    committed: TinyPack, write_config: Any, run: Any, tmp_path: Path
) -> None:
    with (
        ScriptedEndpoint(committed.pirate()) as pirate,
        ScriptedEndpoint(committed.innocent(seed=1)) as innocent,
    ):
        evidence = {"folder": "bundles", "signing_key": "signer.pem"}
        config = write_config(
            {"pirate": pirate.url, "innocent": innocent.url}, pack=committed, evidence=evidence
        )
        assert run("once", "--config", config)[0] == 0
    (bundle,) = (tmp_path / "bundles").iterdir()
    assert bundle.name == "pirate.tiny.zip"
    found = Bundle.read(bundle)
    assert found.numbers["verdict"] == "confirmed"
    assert verify_bundle(found).passed
    before = bundle.read_bytes()
    assert run("once", "--config", config)[0] == 0
    assert bundle.read_bytes() == before, "written once"


def test_evidence_needs_a_committed_pack_and_its_key(
    tiny: TinyPack, committed: TinyPack, write_config: Any, run: Any
) -> None:
    evidence = {"folder": "bundles", "signing_key": "absent.pem"}
    for pack, said in ((tiny, "pack tiny: not committed"), (committed, "absent.pem: ")):
        config = write_config({"x": "http://127.0.0.1:1/v1"}, pack=pack, evidence=evidence)
        code, _, err = run("check", config)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"system_prompt": "Be brief."}, "system_prompt"),
        ({"limits": {"oversize": "resize"}}, "oversize: resize"),
    ],
    ids=["system prompt", "resize"],
)
def test_a_committed_pack_is_asked_as_committed(
    committed: TinyPack, tiny: TinyPack, write_config: Any, run: Any, keys: dict[str, Any], said: str
) -> None:
    for pack, code in ((committed, 2), (tiny, 0)):
        path = write_config({"x": "http://127.0.0.1:1/v1"}, pack=pack)
        body = yaml.safe_load(path.read_text())
        body["targets"][0] |= keys
        path.write_text(yaml.safe_dump(body))
        found, _, err = run("check", path)
        assert found == code
        assert (said in err) == (code == 2)


def test_rescoring_gives_the_same_numbers_and_mends_wrong_ones(
    tiny: TinyPack, store: Store, make_runner: Any, write_config: Any, run: Any, tmp_path: Path
) -> None:
    with ScriptedEndpoint(tiny.pirate()) as endpoint:
        for _ in range(2):
            make_runner(endpoint.url, triggers_per_round=4, clean_share=0.5).run()
        config = write_config({"suspect": endpoint.url}, store="sqlite:///probes.sqlite")
    read = [(r.z, r.log_e, r.log_e_max, r.verdict, r.wrong_key_share) for r in all_rounds(store)]
    types = evidence_types(store, "suspect", pack_id="tiny")
    with store.writing() as session:
        session.execute(update(ScoreRow).values(greens=0, z=-9.0, new_types=[]))
        session.execute(update(RoundRow).values(z=-9.0, log_e=0.0, log_e_max=0.0, verdict="none"))
    code, out, _ = run("rescore", "--config", config, "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["answers"], row["rounds"], row["before"], row["after"]) == (12, 2, "none", "confirmed")
    assert [(r.z, r.log_e, r.log_e_max, r.verdict, r.wrong_key_share) for r in all_rounds(store)] == read
    assert evidence_types(store, "suspect", pack_id="tiny") == types
    assert store.take_lease("suspect", holder=new_holder(), now=time.time(), ttl_s=60)
    code, _, err = run("rescore", "--config", config)
    assert (code, "a round is running" in err) == (1, True)


def all_rounds(store: Store) -> list[RoundRow]:
    return last_rounds(store, "suspect", pack_id="tiny", limit=10)


def test_retention_drops_texts_and_keeps_the_evidence_and_the_chain(
    tiny: TinyPack, store: Store, make_runner: Any
) -> None:
    with (
        ScriptedEndpoint(tiny.innocent(seed=1)) as innocent,
        ScriptedEndpoint(tiny.pirate()) as pirate,
    ):
        old = make_runner(innocent.url, name="innocent", clock=lambda: 1000.0, triggers_per_round=5).run()
        make_runner(innocent.url, name="innocent", clock=lambda: 9000.0).run()
        make_runner(pirate.url, name="pirate", clock=lambda: 1000.0).run()
    types = evidence_types(store, "innocent", pack_id="tiny")
    assert drop_answers(store, "innocent", pack_id="tiny", before=5000, now=9500) == old.answered == 5
    assert drop_answers(store, "innocent", pack_id="tiny", before=5000, now=9500) == 0
    assert drop_answers(store, "pirate", pack_id="tiny", before=5000, now=9500) == 0, "it is evidence"
    assert evidence_types(store, "innocent", pack_id="tiny") == types
    links = read_chain(store.reading(), "innocent", pack_id="tiny")
    assert chain_faults(links) == []
    assert [link.response is None for link in links] == [True] * 5 + [False] * (len(links) - 5)
    with store.reading() as session:
        texts = session.scalar(select(func.count()).where(AnswerRow.text == ""))
    assert texts == 5
    assert store.unscored("innocent", pack_id="tiny") == []


def test_an_export_has_a_row_for_every_send(
    tiny: TinyPack, write_config: Any, run: Any, tmp_path: Path
) -> None:
    with ScriptedEndpoint(tiny.pirate(), faults=["http_500"]) as endpoint:
        config = write_config({"a": endpoint.url, "b": endpoint.url}, triggers_per_round=3)
        run("once", "--config", config)
    code, out, _ = run("export", "--config", config)
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["state"] for row in rows] == ["in_doubt"] + ["answered"] * 5
    assert rows[0]["failure"] == "http"
    assert rows[1]["text"].startswith("x ")
    assert (rows[1]["types"], rows[1]["hit"]) == (40, True) or rows[1]["types"] > 0
    code, out, _ = run("export", "--config", config, "--format", "csv", "--target", "b")
    table = list(csv.DictReader(io.StringIO(out)))
    assert [row["target"] for row in table] == ["b"] * 3
    path = tmp_path / "rows.csv"
    assert run("export", "--config", config, "--out", path, "--format", "csv")[1] == f"{path}: 6 rows\n"
    code, _, err = run("export", "--config", config, "--out", path)
    assert (code, "File exists" in err) == (2, True)


def test_orders_on_the_command_line(tiny: TinyPack, write_config: Any, run: Any, tmp_path: Path) -> None:
    with ScriptedEndpoint(tiny.innocent(seed=1)) as endpoint:
        config = write_config({"suspect": endpoint.url}, targets_folder="targets.d", triggers_per_round=2)
        assert run("pause", "suspect", "--config", config, "--reason", "complaint")[1] == "suspect: paused\n"
        _, out, _ = run("once", "--config", config, "--json")
        assert [row["held"] for row in json.loads(out[: out.rindex("]") + 1])] == ["paused"]
        assert endpoint.questions == []
        assert "(paused)" in run("status", "--config", config)[1]
        assert run("resume", "suspect", "--config", config)[1] == "suspect: resumed\n"
        assert run("pause", "--all", "--config", config)[1] == "every target: paused\n"
        assert json.loads(run("status", "--config", config, "--json")[1])[0]["paused"]
        run("resume", "--all", "--config", config)
        for row in tiny.pack.triggers[1:]:
            assert run("burn", row.id, "--config", config, "--reason", "seen")[0] == 0
        _, out, _ = run("once", "--config", config, "--json")
        assert [row["planned"] for row in json.loads(out)] == [1]
        extra = ("--model", "openai/x", "--authorised-by", "me", "--purpose", "test")
        code, out, _ = run("add", "other", "--config", config, "--api-base", endpoint.url, *extra)
        assert (code, out.endswith("reload the service to watch other\n")) == (0, True)
    assert [target.name for target in load_config(config).targets] == ["suspect", "other"]
    for arguments, said in (
        (("pause",), "give the name of a target, or --all"),
        (("pause", "nobody"), "no target nobody"),
        (("burn", "t99", "--reason", "x"), "no trigger t99"),
        (("add", "other", *extra), "File exists"),
        (("add", "third", *extra, "--api-base", "ftp://x"), "third.yaml: api_base: must be an http"),
        (("add", "../x", *extra), "is no name for a target"),
    ):
        code, _, err = run(*arguments, "--config", config)
        assert (code, err.count("\n"), said in err) == (2, 1, True), err
    assert [path.name for path in (tmp_path / "targets.d").iterdir()] == ["other.yaml"]


def test_a_reload_takes_the_new_targets_and_a_bad_file_changes_nothing(
    tiny: TinyPack, write_config: Any, tmp_path: Path
) -> None:
    scheduler = APSchedulerScheduler()
    with (
        ScriptedEndpoint(tiny.innocent(seed=1)) as endpoint,
        Watch.open(load_config(write_config({"a": endpoint.url, "b": endpoint.url}))) as watch,
    ):
        watch.schedule(scheduler)
        watch.reload(load_config(write_config({"b": endpoint.url, "c": endpoint.url})), scheduler)
        assert set(watch.runners) == set(watch.targets) == {"b", "c"}
        assert [scheduler.next_run(name) is None for name in "abc"] == [True, False, False]
        for changed, said in (
            ({"store": "sqlite:///other.sqlite"}, "store: cannot change"),
            ({"trigger_keys": "absent.json"}, "absent.json"),
        ):
            with pytest.raises(SifError, match=said):
                watch.reload(load_config(write_config({"d": endpoint.url}, **changed)), scheduler)
            assert set(watch.runners) == {"b", "c"}
        assert watch.run_round("c") is not None


def test_a_full_disk_is_a_clear_state(tiny: TinyPack, make_runner: Any, store: Store, tmp_path: Path) -> None:
    """The database may grow by a few pages only: rounds end with one error, and nothing is sent twice."""
    with ScriptedEndpoint(tiny.pirate()) as endpoint:
        runner = make_runner(endpoint.url)
        with store.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        limit_pages(store, pages + 1)
        with pytest.raises(StoreError, match="full"):
            runner.run()
        sent = len(endpoint.questions)
        assert sent < 8
        limit_pages(store, 1_000_000)
        summary = runner.run()
        assert summary.planned == 8 - sent, "what was on its way is in doubt, the rest is asked"
        assert len({question.image_sha256 for question in endpoint.questions}) == len(endpoint.questions) == 8
    with open_store(f"sqlite:///{tmp_path / 'probes.sqlite'}") as again:
        assert chain_faults(read_chain(again.reading(), "suspect", pack_id="tiny")) == []


def limit_pages(store: Store, pages: int) -> None:
    """SQLite's own limit on the size of the file: the same error as a full disk."""
    store.engine.dispose()

    @event.listens_for(store.engine, "connect")
    def _limit(connection: Any, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}").close()
