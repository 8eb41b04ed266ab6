"""``sif verify`` against real HTTP endpoints: a pirate, a stranger, broken endpoints, broken packs."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.testing.endpoint import Question, ScriptedEndpoint
from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.keys import (
    DEMO_SECRET,
    MasterSecret,
    derive_pack_keys,
    write_key_file,
)
from sif_offline.fingerprint.pack import read_pack
from sif_offline.models import load_adapter

Sif = Callable[..., Any]
OneLine = Callable[..., None]


@pytest.fixture
def pirate(models: Path) -> Iterator[ScriptedEndpoint]:
    """Serves the owner's model over HTTP."""
    adapter = load_adapter(f"lab:{models / 'owner'}")

    def answer(question: Question) -> str:
        assert question.image is not None
        (ids,) = adapter.generate([decode_image(question.image, name="asked")], question.prompt)
        return adapter.text(ids)

    with ScriptedEndpoint(answer) as endpoint:
        yield endpoint


def green_words(pack: Path, *, colour: bool) -> dict[bytes, str]:
    """Trigger bytes -> a text of 30 tokens that are all green (or all red) under the trigger's key."""
    from tokenizers import Tokenizer

    from sif_offline.fingerprint.greenlist import green_mask

    content = read_pack(pack)
    tokenizer = Tokenizer.from_buffer(content.tokenizer_json())
    keys = derive_pack_keys(DEMO_SECRET, content)
    letters = [i for i in range(content.vocab_size) if tokenizer.decode([i]).strip().isalpha()]
    texts = {}
    for row in content.triggers:
        mask = green_mask(key=keys.keys[row.id], vocab_size=content.vocab_size)
        texts[content.trigger_bytes(row)] = " ".join(
            tokenizer.decode([i]).strip() for i in letters if bool(mask[i]) is colour
        )
    return texts


def test_the_judged_score_is_what_verify_finds(sif: Sif, pack: Path, pirate: ScriptedEndpoint) -> None:
    result = sif("verify", pack, "--endpoint", pirate.url, "--model", "owner", "--json")
    assert result.code == 0, result.stderr
    said = json.loads(result.stdout)
    for row, found in zip(read_pack(pack).triggers, said["triggers"], strict=True):
        assert found["answer"]["z"] == pytest.approx(row.judged["greedy"])
        assert found["clean"]["z"] == pytest.approx(row.judged["clean"])
    assert said["independent_text"]["null"] == "independent text"
    assert said["unrelated_model"] is None
    assert 0 < said["wrong_key_control"]["pvalue"] <= 1


def test_only_the_unrelated_model_null_confirms(sif: Sif, models: Path, pack: Path) -> None:
    green = green_words(pack, colour=True)
    with ScriptedEndpoint(lambda question: green.get(question.image or b"", "a dog on the grass")) as liar:
        arguments = ["verify", pack, "--endpoint", liar.url, "--model", "x", "--alpha", 1e-3]
        before = json.loads(sif(*arguments, "--json").stdout)
        assert before["independent_text"]["pvalue"] < 1e-3
        assert before["verdict"] == "depends on the key"
        nulls = ["--null", f"lab:{models / 'null-a'}", "--null", f"lab:{models / 'null-b'}"]
        given = json.loads(sif(*arguments, *nulls, "--json").stdout)
        assert given["unrelated_model"]["null"] == "unrelated model"
        assert given["unrelated_model"]["pvalue"] > given["independent_text"]["pvalue"]
        assert sif("calibrate", pack, *nulls).code == 0
        after = json.loads(sif(*arguments, "--json").stdout)
        assert after["unrelated_model"] == given["unrelated_model"]
        assert (after["verdict"] == "confirmed") == (after["unrelated_model"]["pvalue"] < 1e-3)
        table = sif(*arguments).stdout
    assert '"independent text"' in table
    assert '"unrelated model"' in table
    assert f"verdict at alpha 0.001: {after['verdict']}" in table


def test_every_key_tried_is_paid_for(sif: Sif, pack: Path) -> None:
    green = green_words(pack, colour=True)
    with ScriptedEndpoint(lambda question: green.get(question.image or b"", "a dog on the grass")) as liar:
        arguments = ["verify", pack, "--endpoint", liar.url, "--model", "x"]
        once = json.loads(sif(*arguments, "--json").stdout)
        assert once["verdict"] == "depends on the key"
        many = int(1e-3 / once["independent_text"]["pvalue"])
        searched = json.loads(sif(*arguments, "--keys-tried", many, "--json").stdout)
        assert searched["independent_text"]["adjusted_pvalue"] == pytest.approx(1e-3, rel=1e-2)
        assert searched["verdict"] == "no evidence"
        table = sif(*arguments, "--keys-tried", many).stdout
    assert f"sets of keys ever tried on these answers: {many}, paid for" in table


def test_red_answers_are_no_evidence(sif: Sif, pack: Path) -> None:
    red = green_words(pack, colour=False)
    with ScriptedEndpoint(lambda question: red.get(question.image or b"", "a dog")) as innocent:
        said = json.loads(sif("verify", pack, "--endpoint", innocent.url, "--model", "x", "--json").stdout)
    assert said["verdict"] == "no evidence"
    assert said["independent_text"]["pvalue"] == pytest.approx(1.0)


def test_refusals_are_not_scored(sif: Sif, one_line: OneLine, pack: Path) -> None:
    sorry = "I'm sorry, but I can't help with that."
    with ScriptedEndpoint(lambda question: sorry) as endpoint:
        result = sif("verify", pack, "--endpoint", endpoint.url, "--model", "shy")
    one_line(result, "shy at", "refusal")


def test_trigger_keys_are_enough(sif: Sif, pack: Path, pirate: ScriptedEndpoint, tmp_path: Path) -> None:
    keys = tmp_path / "trigger.keys"
    derive_pack_keys(DEMO_SECRET, read_pack(pack)).write(keys)
    result = sif(
        *("verify", pack, "--endpoint", pirate.url, "--model", "owner", "--trigger-keys", keys, "--json")
    )
    assert result.code == 0, result.stderr


def test_broken_endpoints(sif: Sif, one_line: OneLine, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{held.getsockname()[1]}"
        result = sif("verify", pack, "--endpoint", dead, "--model", "gone")
    one_line(result, "gone", "cannot be reached", dead)
    with ScriptedEndpoint(lambda question: "x", faults=["html"] * 9) as page:
        result = sif("verify", pack, "--endpoint", page.url, "--model", "site")
    one_line(result, "site", "HTML")
    one_line(sif("verify", pack, "--endpoint", "ftp://x", "--model", "m"), "ftp://x")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    one_line(
        sif("verify", pack, "--endpoint", dead, "--model", "m", "--api-key-env", "NO_SUCH_KEY"), "NO_SUCH_KEY"
    )


def test_wrong_keys_and_changed_packs(sif: Sif, one_line: OneLine, pack: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.key"
    write_key_file(wrong, MasterSecret.from_bytes(bytes(32)))
    where = ["--endpoint", "http://127.0.0.1:1", "--model", "m"]
    one_line(sif("verify", pack, *where, "--key-file", wrong), "wrong key")
    trigger = pack / "triggers" / "t001.png"
    changed = bytearray(trigger.read_bytes())
    changed[-20] ^= 1
    trigger.write_bytes(bytes(changed))
    one_line(sif("verify", pack, *where), "triggers/t001.png")


@pytest.mark.parametrize("extra", ["?api_key=hunter22", "#hunter22"])
@pytest.mark.parametrize("user", ["", "me:hunter22@"])
def test_a_credential_in_the_url_is_refused_unseen(
    sif: Sif, one_line: OneLine, forged: Path, tmp_path: Path, user: str, extra: str
) -> None:
    """The URL names the endpoint in transcripts and bundles."""
    kept = tmp_path / "look.jsonl"
    done = sif(
        *("verify", forged, "--endpoint", f"http://{user}127.0.0.1:1/v1{extra}", "--model", "x"),
        *("--transcript", kept),
    )
    one_line(done, "--api-key-env")
    assert "hunter22" not in done.stderr
    assert not kept.exists()
