"""The audit record, and its file: whole lines whatever happens to the writer."""

import base64
import fcntl
import hashlib
import json
import math
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway_plugin.audit import AuditError, AuditRecord, AuditSink, JsonlSink, open_sink, read_jsonl
from gateway_plugin.screening.base import Status
from gateway_plugin.screening.policy import Action


def record(**changed: Any) -> AuditRecord:
    return AuditRecord(**{"phase": "request", "action": "flag", "effective": "flag", **changed})


def written(path: Path) -> list[dict[str, Any]]:
    """Every line, none of which may be torn."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(script: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


FULL = AuditRecord(
    audit_id="0" * 32,
    at=datetime(2026, 3, 1, 13, 0, tzinfo=timezone(timedelta(hours=1))),
    guardrail="sda",
    phase="response",
    route="chat",
    call_id="c1",
    model="main",
    team="blue",
    key="ci",
    end_user="u1",
    action=Action.REPLACE,
    effective=Action.REPLACE,
    by="divergence",
    bypassed=("judge",),
    findings={"divergence": {"status": Status.HIT, "cosine": np.float32(0.25), "reason": "far apart"}},
    replaced_by="ref",
    billed_models=("main", "ref"),
    reference={"outcome": "ok", "seconds": 0.5, "prompt_tokens": 7, "completion_tokens": 9, "cost": None},
)


def test_a_record_is_one_line_with_every_field(tmp_path: Path) -> None:
    JsonlSink(tmp_path / "audit.jsonl").write([FULL])
    assert written(tmp_path / "audit.jsonl") == [
        {
            "version": 1,
            "audit_id": "0" * 32,
            "at": "2026-03-01T12:00:00.000000+00:00",
            "guardrail": "sda",
            "phase": "response",
            "route": "chat",
            "call_id": "c1",
            "model": "main",
            "team": "blue",
            "key": "ci",
            "end_user": "u1",
            "action": "replace",
            "effective": "replace",
            "by": "divergence",
            "dry_run": False,
            "bypassed": ["judge"],
            "findings": {"divergence": {"status": "hit", "cosine": 0.25, "reason": "far apart"}},
            "replaced_by": "ref",
            "billed_models": ["main", "ref"],
            "reference": {
                "outcome": "ok",
                "seconds": 0.5,
                "prompt_tokens": 7,
                "completion_tokens": 9,
                "cost": None,
            },
            "prompt": None,
            "answer": None,
        }
    ]


def test_a_record_of_its_own_has_an_id_and_a_time() -> None:
    one, other = record(), record()
    assert len(one.audit_id) == 32
    assert one.audit_id != other.audit_id
    assert abs(datetime.now(UTC) - one.at) < timedelta(minutes=1)
    with pytest.raises(ValueError, match="time zone"):
        record(at=datetime(2026, 1, 1))


def test_texts_are_kept_as_given_and_never_shown() -> None:
    said = record(prompt="What is \u732b?", answer="A cat.\n")
    assert (said.row()["prompt"], said.row()["answer"]) == ("What is \u732b?", "A cat.\n")
    assert "cat" not in repr(said)
    assert "\u732b" not in repr(said)


def test_no_picture_is_kept() -> None:
    """Also where the whole request is the text, as on LiteLLM's pass-through routes."""
    picture = os.urandom(2**16)
    for encoded in (base64.b64encode(picture).decode(), base64.urlsafe_b64encode(picture).decode()):
        body = json.dumps({"url": f"data:image/png;base64,{encoded}", "text": "What is this?"})
        kept = record(prompt=body).row()["prompt"]
        assert encoded[:100] not in kept
        assert len(kept) < 200
        assert json.loads(kept)["text"] == "What is this?"
    assert record(findings={"x": {"picture": picture}}).row()["findings"]["x"]["picture"] == "[65536 bytes]"


def test_a_long_text_that_is_no_file_is_kept_whole() -> None:
    text = "What is this? " * 10_000 + "x" * 500
    assert record(prompt=text).row()["prompt"] == text


def test_a_raw_key_is_kept_as_its_hash() -> None:
    row = record(key="sk-1234567890").row()
    assert row["key"] == hashlib.sha256(b"sk-1234567890").hexdigest()
    assert record(key="ci-key").row()["key"] == "ci-key"


def test_what_a_client_chooses_is_bounded_and_harmless() -> None:
    row = record(end_user="u" * 10_000, model="a\x00b\ud800c", findings={"p": {"x": math.nan}}).row()
    assert len(row["end_user"]) == 512
    assert row["model"] == "a\ufffdb\ufffdc"
    assert row["findings"] == {"p": {"x": None}}


def test_line_ends_and_terminal_commands_stay_inside_their_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    JsonlSink(path).write([record(end_user="a\nb\r\u2028\u0085c\x1b[2J\x9b2J", prompt="one\ntwo")])
    (line,) = path.read_text().splitlines()
    assert line.isprintable()
    assert json.loads(line)["prompt"] == "one\ntwo"


# -- the file


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        JsonlSink(tmp_path / "audit.jsonl")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_a_file_that_exists_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for name in ("a", "b"):
        JsonlSink(path).write([record(call_id=name)])
    assert [row["call_id"] for row in written(path)] == ["a", "b"]


def test_a_rotated_file_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = JsonlSink(path)
    sink.write([record(call_id="old")])
    path.rename(tmp_path / "audit.jsonl.1")
    sink.write([record(call_id="new")])
    assert [row["call_id"] for row in written(tmp_path / "audit.jsonl.1")] == ["old"]
    assert [row["call_id"] for row in written(path)] == ["new"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_after_a_torn_line_a_fresh_one_begins(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = JsonlSink(path)
    sink.write([record(call_id="a")])
    with path.open("ab") as file:
        file.write(b'{"version":1,"audit_id":"12')
    sink.write([record(call_id="b"), record(call_id="c")])
    rows = read_jsonl(path)
    assert [row["call_id"] for row in rows] == ["a", "b", "c"]
    assert rows.skipped == 1


def test_a_reader_skips_what_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    JsonlSink(path).write([record(call_id="a")])
    whole = path.read_bytes()
    odd = [b"", b"[]", b"3", b"{}", b"\xff\xfe", b"[" * 100_000, b"\x00" * 100, b'{"audit_id":"torn']
    path.write_bytes(whole + b"\n".join(odd) + b"\n" + whole + whole[:-20])
    rows = read_jsonl(path)
    assert [row["call_id"] for row in rows] == ["a", "a"]
    assert rows.skipped == len(odd) + 1
    with pytest.raises(AuditError, match=r"audit file .*missing\.jsonl: No such file"):
        read_jsonl(tmp_path / "missing.jsonl")


WRITER = """
import sys
from gateway_plugin.audit import AuditRecord, JsonlSink
path, name, batches = sys.argv[1], sys.argv[2], int(sys.argv[3])
sink, number = JsonlSink(path), 0
sys.stdin.readline()
while batches:
    batches -= 1
    rows = [AuditRecord(phase="request", action="flag", effective="flag", team=name, call_id=str(number + i),
                        prompt=f"{name} " * (1 + 4000 * (i % 3))) for i in range(7)]
    sink.write(rows)
    number += len(rows)
    print(number, flush=True)
"""


def test_two_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    writers = [run(WRITER, str(path), name, "60") for name in ("red", "blue")]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    rows = written(path)
    for name in ("red", "blue"):
        mine = [row for row in rows if row["team"] == name]
        assert [int(row["call_id"]) for row in mine] == list(range(420))
        assert all(set(row["prompt"].split()) == {name} for row in mine)
    teams = [row["team"] for row in rows]
    assert sum(one != other for one, other in pairwise(teams)) > 1, "not at once"


def test_a_kill_in_the_middle_loses_nothing_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(3):
        writer = run(WRITER, str(path), "killed", "-1")
        assert writer.stdout is not None
        assert writer.stdin is not None
        writer.stdin.close()
        for _ in range(20):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        before = sum(row["team"] == "killed" for row in read_jsonl(path))
        assert before >= acknowledged
        JsonlSink(path).write([record(team="next")])
        rows = read_jsonl(path)
        teams = [row["team"] for row in rows]
        assert teams[-1] == "next"
        assert rows.skipped <= 1  # of this kill; those before are taken away below
        path.unlink()


def test_a_writer_waits_for_another_that_is_in_the_middle(tmp_path: Path) -> None:
    """Whose half of a line it would otherwise take for a torn one, or lose its own to that one's clean-up."""
    path = tmp_path / "audit.jsonl"
    sink = JsonlSink(path)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b'{"version":1,')
        other.flush()
        writer = threading.Thread(target=sink.write, args=([record(call_id="b")],))
        writer.start()
        writer.join(0.2)
        other.write(b'"audit_id":"a","call_id":"a"}\n')
        other.flush()
    writer.join(60)
    assert [row["call_id"] for row in written(path)] == ["a", "b"]


FILLING = """
import json, resource, sys
from gateway_plugin.audit import AuditError, AuditRecord, JsonlSink
sink = JsonlSink(sys.argv[1])
def row(i):
    return AuditRecord(phase="request", action="flag", effective="flag", call_id=str(i), prompt="word " * 400)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
stored, said = 0, None
try:
    while True:
        sink.write([row(stored), row(stored + 1)])
        stored += 2
except AuditError as error:
    said = str(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
sink.write([row(stored)])
print(json.dumps([stored, said]))
"""


def test_a_write_that_does_not_fit_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """A limit on the file's size makes the kernel write a part and then fail, as a full disk does."""
    path = tmp_path / "audit.jsonl"
    out, _ = run(FILLING, str(path)).communicate(timeout=60)
    stored, said = json.loads(out)
    assert said == f"audit file {path}: File too large"
    assert stored == 4  # of 2.4 kB each; the fifth still fits, the sixth does not
    assert [int(row["call_id"]) for row in written(path)] == [0, 1, 2, 3, 4]


# -- targets that cannot be written


@contextmanager
def without_rights() -> Iterator[None]:
    """Root may write anywhere; for a moment this process is somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_without_rights_is_noticed_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with without_rights(), pytest.raises(AuditError, match=r"audit file .*Permission denied"):
        open_sink(str(folder / "audit.jsonl"))


def test_a_target_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for target, said in {
        tmp_path: "Is a directory",
        tmp_path / "no" / "audit.jsonl": "No such file or directory",
        tmp_path / "file" / "audit.jsonl": "Not a directory",
        tmp_path / "pipe": "not a regular file",
        "/dev/full": "not a regular file",
    }.items():
        with pytest.raises(AuditError) as caught:
            open_sink(str(target))
        assert str(caught.value) == f"audit file {target}: {said}"


def test_a_path_opens_a_file(tmp_path: Path) -> None:
    sink: AuditSink = open_sink(str(tmp_path / "audit.jsonl"), fsync=True)
    sink.write([record()])
    sink.close()
    sink.write([record()])  # closing lets go; writing takes up again
    assert len(written(tmp_path / "audit.jsonl")) == 2
    assert repr(sink) == f"JsonlSink('{tmp_path}/audit.jsonl')"
