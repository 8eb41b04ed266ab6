"""The command: what it prints, and one line and exit code 2 for every mistake."""

import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import TinyPack


def test_once_status_and_check(tiny: TinyPack, run: Any, write_config: Any) -> None:
    with ScriptedEndpoint(tiny.pirate()) as pirate, ScriptedEndpoint(tiny.innocent(seed=1)) as innocent:
        config = write_config({"pirate": pirate.url, "innocent": innocent.url}, clean_share=0.5)
        code, out, _ = run("check", config, "--ask")
        assert code == 0
        assert out.endswith("ok\n")
        assert "pack tiny: 8 triggers, keys fit" in out
        assert [len(endpoint.questions) for endpoint in (pirate, innocent)] == [1, 1]
        code, out, err = run("once", "--config", config, "--json")
    assert (code, err) == (0, "")
    first, second = json.loads(out)
    assert (first["target"], first["verdict"], first["state"]) == ("pirate", "confirmed", "complete")
    assert first["pvalue"] < 1e-4
    assert (second["target"], second["verdict"]) == ("innocent", "none")
    assert second["pvalue"] > 0.01
    assert first["answered"] == 12
    # the controls beside every verdict: the same answers under 99 keys of nobody's
    assert first["wrong_key_pvalue"] == pytest.approx(1 / 100)
    assert second["wrong_key_pvalue"] > 0.05
    assert abs(first["wrong_key_share"] - 0.5) < 0.05

    code, out, _ = run("status", "--config", config, "--json")
    assert code == 0
    assert [(row["target"], row["verdict"], row["stands_out"]) for row in json.loads(out)] == [
        ("pirate", "confirmed", True),
        ("innocent", "none", False),
    ]
    code, out, _ = run("status", "--config", config)
    assert code == 0
    assert re.search(r"pirate\W+confirmed\W+stands out", out)
    code, out, _ = run("once", "--config", config)
    assert code == 0
    assert "idle" in out, "everything is within its cool-down"


def test_a_dead_endpoint_and_one_that_answers_html(run: Any, write_config: Any, tiny: TinyPack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = write_config({"gone": f"http://127.0.0.1:{port}/v1"}, attempts=1)
    code, _, err = run("once", "--config", config)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: target gone: cannot be reached: ")
    with ScriptedEndpoint(tiny.pirate(), faults=["html"] * 8) as endpoint:
        code, _, err = run("once", "--config", write_config({"page": endpoint.url}))
    assert code == 2
    assert err == f"error: target page: answered HTML instead of JSON ({endpoint.url})\n"


def test_mistakes_are_one_line_and_write_nothing(
    run: Any, write_config: Any, tiny: TinyPack, uncalibrated: TinyPack, tmp_path: Path
) -> None:
    config = write_config({"suspect": "http://127.0.0.1:9/v1"})

    def expect(said: str, *arguments: object) -> None:
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert err.startswith("error: ")
        assert said in err
        assert not (tmp_path / "sif-probes.sqlite").exists(), "something was written"

    expect("absent.yaml: No such file", "once", "--config", tmp_path / "absent.yaml")

    changed = tmp_path / "changed"
    shutil.copytree(tiny.folder, changed)
    picture = changed / "triggers" / "t03.png"
    picture.write_bytes(picture.read_bytes()[:-1] + b"\x00")
    config.write_text(config.read_text().replace(str(tiny.folder), str(changed)))
    expect("triggers/t03.png", "once", "--config", config)
    expect("triggers/t03.png", "check", config)

    other = tmp_path / "other.json"
    text = tiny.keys_path.read_text()
    first = json.loads(text)["keys"]["t00"]
    other.write_text(text.replace(first, "00" * 32))
    other.chmod(0o600)
    config = write_config({"suspect": "http://127.0.0.1:9/v1"}, trigger_keys=str(other))
    expect("pack tiny: wrong key for trigger t00", "once", "--config", config)
    other.chmod(0o644)
    expect("lets others read the key", "serve", "--config", config)

    config = write_config({"suspect": "http://no-such-host.invalid/v1"})
    code, _, err = run("check", config)
    assert code == 2
    assert err.startswith("error: target suspect: no-such-host.invalid: ")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = write_config({"suspect": "http://127.0.0.1:9/v1"}, listen={"port": port})
        code, _, err = run("serve", "--config", config)
        assert (code, err.count("\n")) == (1, 1), "no mistake: whoever has the port may let go of it"
        assert err.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
