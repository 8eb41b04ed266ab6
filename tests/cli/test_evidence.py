"""``sif evidence`` from the first key to a third party's replay, as an owner and a judge would run it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack, build_tiny_pack
from sif_offline.fingerprint.evidence.bundle import Bundle

Sif = Callable[..., Any]
OneLine = Callable[..., None]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> TinyPack:
    """Eight triggers; copy its folder before changing it."""
    return build_tiny_pack(tmp_path_factory.mktemp("calibrated"))


@pytest.fixture
def owner(sif: Sif, calibrated: TinyPack, tmp_path: Path) -> dict[str, Path]:
    """A pack committed to by an owner, and the owner's files."""
    files = {
        "pack": Path(shutil.copytree(calibrated.folder, tmp_path / "pack")),
        "keys": calibrated.keys_path,
        "signer": tmp_path / "owner.pem",
        "public": tmp_path / "owner.pub.pem",
    }
    assert sif("evidence", "keygen", "--out", files["signer"]).code == 0
    done = sif(
        *("evidence", "commit", files["pack"], "--signing-key", files["signer"]),
        *("--insecure-demo-key", "--publish", tmp_path / "published.json", "--json"),
    )
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["reserve"] == ["t06", "t07"]
    return files


def test_from_commitment_to_replay(
    sif: Sif, one_line: OneLine, owner: dict[str, Path], calibrated: TinyPack, tmp_path: Path
) -> None:
    transcript, made = tmp_path / "look.jsonl", tmp_path / "evidence.zip"
    keys = ("--trigger-keys", owner["keys"])
    with ScriptedEndpoint(calibrated.pirate()) as endpoint:
        where = ("--endpoint", endpoint.url, "--model", "suspect")
        look = sif("verify", owner["pack"], *where, *keys, "--transcript", transcript, "--json")
        assert look.code == 0, look.stderr
        asked = {calibrated.trigger_of.get(question.image_sha256) for question in endpoint.questions}
        assert asked == {f"t{i:02d}" for i in range(6)} | {None}, "triggers in reserve were sent"

        done = sif(
            *("evidence", "bundle", owner["pack"], "--transcript", transcript, *keys),
            *("--signing-key", owner["signer"], "--out", made, "--json"),
        )
        assert done.code == 0, done.stderr
        said, looked = json.loads(done.stdout), json.loads(look.stdout)
        assert looked["alpha"] == said["policy"]["alpha"] == 1e-6, "the committed level"
        assert said["verdict"] == "confirmed"
        for null in ("independent_text", "unrelated_model"):
            assert said[null]["pvalue"] == pytest.approx(looked[null]["pvalue"], rel=1e-12)

        checked = sif("evidence", "verify", made, "--owner-key", owner["public"])
        assert checked.code == 0, checked.stdout
        assert "every step holds; verdict: confirmed" in checked.stdout
        assert "published demo secret" in checked.stdout.partition("verdict: confirmed")[2]

        kit, judge = tmp_path / "kit", tmp_path / "judge.pem"
        arguments = ("--signing-key", owner["signer"], "--out", kit)
        assert sif("evidence", "kit", owner["pack"], *keys, *arguments).code == 0
        assert sif("evidence", "keygen", "--out", judge).code == 0
        before = len(endpoint.questions)
        replayed = sif(
            *("evidence", "replay", kit, *where, "--signing-key", judge, "--out", tmp_path / "replayed"),
            *("--owner-key", owner["public"], "--json"),
        )
        assert replayed.code == 0, replayed.stderr
        sent = [calibrated.trigger_of.get(q.image_sha256) for q in endpoint.questions[before:]]
        assert sent == ["t06", None, "t07", None]
    assert json.loads(replayed.stdout)["verdict"] == "confirmed"
    trusting = ("--owner-key", owner["public"])
    mine = sif("evidence", "verify", tmp_path / "replayed", *trusting)
    assert mine.code == 1, "signed by somebody else than the owner, and not said so"
    by_judge = (*trusting, "--bundler-key", tmp_path / "judge.pub.pem")
    assert sif("evidence", "verify", tmp_path / "replayed", *by_judge).code == 0
    again = sif(*("evidence", "verify", tmp_path / "replayed", *by_judge, "--json"))
    assert json.loads(again.stdout)["passed"] is True
    assert not (tmp_path / "replayed.transcript.jsonl").exists()


def test_a_bundle_never_holds_the_master_or_an_unused_key(
    sif: Sif, owner: dict[str, Path], calibrated: TinyPack, tmp_path: Path
) -> None:
    from sif_offline.fingerprint.keys import DEMO_SECRET, TriggerKeys

    transcript = tmp_path / "look.jsonl"
    with ScriptedEndpoint(calibrated.pirate()) as endpoint:
        where = ("--endpoint", endpoint.url, "--model", "suspect")
        sif("verify", owner["pack"], *where, "--transcript", transcript)
    done = sif(
        *("evidence", "bundle", owner["pack"], "--transcript", transcript),
        *("--signing-key", owner["signer"], "--out", tmp_path / "bundle"),
    )
    assert done.code == 0, done.stderr
    everything = b"".join(path.read_bytes() for path in (tmp_path / "bundle").rglob("*") if path.is_file())
    keys = TriggerKeys.read(owner["keys"]).keys
    assert DEMO_SECRET.reveal().hex().encode() not in everything
    assert owner["signer"].read_bytes() not in everything
    assert [trigger for trigger, key in keys.items() if key.hex().encode() not in everything] == [
        "t06",
        "t07",
    ]


def test_what_cannot_be_claimed_is_not_committed(
    sif: Sif, one_line: OneLine, owner: dict[str, Path], calibrated: TinyPack, tmp_path: Path
) -> None:
    signing = ("--signing-key", owner["signer"])
    one_line(sif("evidence", "commit", owner["pack"], *signing, "--insecure-demo-key"), "second chance")
    fresh = shutil.copytree(calibrated.folder, tmp_path / "fresh")
    one_line(sif("evidence", "commit", fresh, *signing), "demo secret")
    raw = build_tiny_pack(tmp_path / "raw", calibrated=False).folder
    one_line(sif("evidence", "commit", raw, *signing, "--insecure-demo-key"), "not calibrated")
    demo = (*signing, "--insecure-demo-key")
    one_line(sif("evidence", "commit", fresh, *demo, "--reserve", 8), "none to send")
    one_line(sif("evidence", "commit", fresh, *demo, "--alpha", 2), "alpha")
    one_line(sif("evidence", "commit", fresh, *demo, "--tsa", "http://127.0.0.1:1"), "127.0.0.1")
    assert not (Path(fresh) / "commitment.json").exists(), "a failed commitment leaves the pack as it was"
    assert sif("evidence", "commit", fresh, *demo, "--reserve", 0).code == 0
    one_line(
        sif("evidence", "kit", fresh, *signing, "--out", tmp_path / "kit"), "nothing was held in reserve"
    )
    one_line(
        sif("evidence", "bundle", raw, *signing, "--transcript", "x", "--out", tmp_path / "b"),
        "not committed",
    )
    one_line(sif("evidence", "bundle", fresh, *signing, "--out", tmp_path / "b"), "--transcript")
    store = f"sqlite:///{tmp_path / 'empty.sqlite'}"
    one_line(
        sif(
            *("evidence", "bundle", fresh, *signing, "--store", store, "--target", "x"),
            "--out",
            tmp_path / "b",
        ),
        "no exchange",
    )
    one_line(sif("evidence", "verify", fresh), "not a bundle")


def test_calibration_after_the_commitment_is_refused(
    sif: Sif, one_line: OneLine, forged: Path, models: Path, owner: dict[str, Path], tmp_path: Path
) -> None:
    pack = shutil.copytree(forged, tmp_path / "forged")
    signing = ("--signing-key", owner["signer"])
    assert sif("evidence", "commit", pack, *signing, "--insecure-demo-key", "--uncalibrated").code == 0
    one_line(sif("calibrate", pack, "--null", f"lab:{models / 'null-a'}"), "is committed")


def test_a_judges_own_null_models(
    sif: Sif, one_line: OneLine, forged: Path, models: Path, owner: dict[str, Path], tmp_path: Path
) -> None:
    pack = shutil.copytree(forged, tmp_path / "forged")
    assert sif("calibrate", pack, "--null", f"lab:{models / 'null-a'}").code == 0
    signing = ("--signing-key", owner["signer"])
    assert sif("evidence", "commit", pack, *signing, "--insecure-demo-key").code == 0
    look, made = tmp_path / "look.jsonl", tmp_path / "evidence"
    with ScriptedEndpoint(lambda question: "a dog on the grass") as endpoint:
        assert sif("verify", pack, "--endpoint", endpoint.url, "--model", "x", "--transcript", look).code == 0
    assert sif("evidence", "bundle", pack, *signing, "--transcript", look, "--out", made).code == 0
    done = sif("evidence", "nulls", made, "--null", f"lab:{models / 'null-b'}", "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["by_your_bound"]["unrelated_model"]["gamma0"] == pytest.approx(
        said["by_the_committed_bound"]["unrelated_model"]["gamma0"]
        + said["transfer_bound"]
        - said["committed_transfer_bound"]
    )
    assert "by your bound" in sif("evidence", "nulls", made, "--null", f"lab:{models / 'null-b'}").stdout
    one_line(sif("evidence", "nulls", made, "--null", f"lab:{models / 'owner'}"), "is the owner")
    (made / "keys.json").write_text("{}")
    one_line(sif("evidence", "nulls", made, "--null", f"lab:{models / 'null-b'}"), "does not hold (keys")


def test_a_replay_goes_on_where_it_stopped(
    sif: Sif, one_line: OneLine, owner: dict[str, Path], calibrated: TinyPack, tmp_path: Path
) -> None:
    kit, pack = tmp_path / "kit", shutil.copytree(calibrated.folder, tmp_path / "another")
    signing = ("--signing-key", owner["signer"])
    assert sif("evidence", "commit", pack, *signing, "--insecure-demo-key", "--reserve", 4).code == 0
    assert sif("evidence", "kit", pack, *signing, "--out", kit).code == 0
    # the endpoint answers twice, is broken for three questions, and well again
    with ScriptedEndpoint(calibrated.pirate(), faults=[None, None, "html", "html", "html"]) as endpoint:
        where = ("--endpoint", endpoint.url, "--model", "suspect")
        arguments = ("evidence", "replay", kit, *where, *signing, "--out", tmp_path / "replayed")
        one_line(sif(*arguments), "HTML")
        kept = tmp_path / "replayed.transcript.jsonl"
        with kept.open("ab") as file:
            file.write(b'{"record": {"index"')  # and killed while it wrote
        assert sif(*arguments).code == 0
        assert len(endpoint.questions) == 8, "what may have been answered was asked again"
    outcomes = [exchange.record.outcome for exchange in Bundle.read(tmp_path / "replayed").exchanges]
    assert outcomes == ["answer"] * 2 + ["in_doubt:not_json"] * 3 + ["answer"] * 3
    assert not kept.exists()
