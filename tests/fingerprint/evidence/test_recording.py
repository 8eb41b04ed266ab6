"""A transcript outlives whoever writes it: kills, a second writer, endpoints that are down for a while."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.recording import Asked, Recorder, replay
from sif_offline.fingerprint.evidence.transcript import chain_faults
from tests.fingerprint.evidence.case import Case, make_case

ANSWER = Asked("answer", {"text": "a dog", "raw": {}})
REFUSED_CONNECTION = Asked("failed:connection", {"failure": "connection", "reason": "cannot be reached"})


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), rounds=1)


def recorder(path: Path) -> Recorder:
    return Recorder(path, target="x", pack_id="p", model="m", endpoint=None, max_tokens=48)


def put(chain: Recorder, ask: Callable[[bytes, str, int], Asked], trigger: str = "t00") -> Asked:
    return chain.put(ask, image=b"png", prompt="Describe.", trigger_id=trigger, control=False)


def killed(_image: bytes, _prompt: str, _tokens: int) -> Asked:
    raise KeyboardInterrupt


def test_a_question_that_a_kill_left_open_is_in_doubt(tmp_path: Path) -> None:
    path = tmp_path / "look.jsonl"
    chain = recorder(path)
    put(chain, lambda *_: ANSWER)
    with pytest.raises(KeyboardInterrupt):
        put(chain, killed, "t01")
    chain.close()
    again = recorder(path)
    assert [(e.record.trigger_id, e.record.outcome) for e in again.exchanges] == [
        ("t00", "answer"),
        ("t01", "in_doubt:crash"),
    ]
    assert chain_faults(again.exchanges) == []
    again.close()
    assert [e.record.outcome for e in recorder(path).exchanges] == ["answer", "in_doubt:crash"]


def test_an_answer_whose_line_was_cut_short_is_in_doubt(tmp_path: Path) -> None:
    path, note = tmp_path / "look.jsonl", tmp_path / "look.jsonl.asking"
    chain = recorder(path)

    def keep_note(_image: bytes, _prompt: str, _tokens: int) -> Asked:
        kept.append(note.read_bytes())
        return ANSWER

    kept: list[bytes] = []
    put(chain, keep_note)
    chain.close()
    assert not note.exists()
    note.write_bytes(kept[0])
    whole = path.read_bytes()
    assert [e.record.outcome for e in recorder(path).exchanges] == ["answer"], "kept, and noted still"
    note.write_bytes(kept[0])
    path.write_bytes(whole[:-40])
    assert [e.record.outcome for e in recorder(path).exchanges] == ["in_doubt:crash"]
    note.write_bytes(kept[0][:20])  # never sent
    assert [e.record.outcome for e in recorder(path).exchanges] == ["in_doubt:crash"]


def test_two_writers_of_one_transcript(tmp_path: Path) -> None:
    path = tmp_path / "look.jsonl"
    chain = recorder(path)
    with pytest.raises(EvidenceError, match="another process"):
        recorder(path)
    code = (
        "from pathlib import Path; import sys\n"
        "from sif_offline.fingerprint.evidence.recording import Recorder\n"
        "Recorder(Path(sys.argv[1]), target='x', pack_id='p', model='m', endpoint=None, max_tokens=1)"
    )
    other = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "another process" in other.stderr
    put(chain, lambda *_: ANSWER)
    chain.close()
    assert len(recorder(path).exchanges) == 1


def test_an_endpoint_that_was_down_is_asked_again_later(case: Case, tmp_path: Path) -> None:
    """What was certainly not answered is not lost; after three failures a question is left alone."""
    material, path = case.bundle.material, tmp_path / "look.jsonl"
    with pytest.raises(EvidenceError, match="cannot be reached"):
        replay(material, lambda *_: REFUSED_CONNECTION, recorder(path), name="x")
    asked: list[bytes] = []

    def well_again(image: bytes, prompt: str, tokens: int) -> Asked:
        asked.append(image)
        return REFUSED_CONNECTION if len(asked) == 1 else ANSWER

    with pytest.raises(EvidenceError, match="1 questions failed, repeat"):
        replay(material, well_again, recorder(path), name="x")
    assert len(asked) == 2 * len(material.disclosures)
    assert asked[0] == material.pictures[material.disclosures[0].leaf.trigger_id][0]
    replay(material, lambda *_: REFUSED_CONNECTION, recorder(path), name="x")  # its third failure
    replay(material, killed, recorder(path), name="x")  # nothing left to ask
    rows = [json.loads(line)["record"]["outcome"] for line in path.read_text().splitlines()]
    assert rows.count("failed:connection") == 5
    assert rows.count("answer") == 2 * len(material.disclosures) - 1
