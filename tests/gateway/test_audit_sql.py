"""The audit table, in SQLite and in a real PostgreSQL where the machine has one."""

import json
import os
import pwd
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from gateway_plugin.audit import AuditError, AuditLog, AuditRecord, AuditSink, open_sink
from gateway_plugin.audit.sql import TABLE

PASSWORD = "pass-word-that-never-shows"


def record(**changed: Any) -> AuditRecord:
    return AuditRecord(**{"phase": "request", "action": "flag", "effective": "flag", **changed})


def rows(url: str) -> list[dict[str, Any]]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(select(TABLE).order_by(TABLE.c.at)).mappings()]
    finally:
        engine.dispose()


def run_sql(url: str, *statements: str) -> None:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


class Postgres:
    """A server of one's own, in a folder that goes with it."""

    def __init__(self, bin_folder: Path, folder: Path) -> None:
        self._bin, self._data = bin_folder, folder / "data"
        # PostgreSQL refuses to run as root
        self._user = next((u.pw_name for u in pwd.getpwall() if u.pw_name in ("postgres", "nobody")), None)
        if os.geteuid() == 0:
            shutil.chown(folder, self._user)
        else:
            self._user = None
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        password = folder / "password"
        password.write_text(PASSWORD)
        self._run(
            "initdb", "-U", "sif", "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync", "-E", "UTF8"
        )
        self._options = f"-p {self._port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, "-D", self._data, *arguments],
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )

    def start(self) -> None:
        log = str(self._data / "log")
        self._run("pg_ctl", "-w", "-l", log, "-o", self._options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def url(self, database: str = "postgres", user: str = "sif") -> str:
        return f"postgresql+psycopg://{user}:{PASSWORD}@127.0.0.1:{self._port}/{database}"


def find_postgres() -> Path | None:
    found = shutil.which("initdb")
    homes = [Path(found).resolve()] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return homes[-1].parent if homes else None


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    programs = find_postgres()
    if programs is None:
        pytest.skip("this machine has no PostgreSQL server (no initdb)")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="sif-pg-"))
    try:
        server = Postgres(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit.db"
    server: Postgres = request.getfixturevalue("postgres")
    return new_database(server)


def new_database(server: Postgres) -> str:
    name = f"audit_{secrets.token_hex(4)}"
    engine = create_engine(server.url(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.url(name)


@pytest.fixture
def opened() -> Iterator[Callable[[str], AuditSink]]:
    sinks: list[AuditSink] = []

    def open_it(target: str) -> AuditSink:
        sinks.append(open_sink(target))
        return sinks[-1]

    yield open_it
    for sink in sinks:
        sink.close()


Open = Callable[[str], AuditSink]


def test_a_record_is_one_row_with_every_field(url: str, opened: Open) -> None:
    at = datetime(2026, 3, 1, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    findings = {"perplexity": {"status": "hit", "worst_window": 12_345.5, "reason": "\u732b"}}
    opened(url).write(
        [
            record(
                at=at,
                audit_id="0" * 32,
                call_id="c1",
                by="perplexity",
                dry_run=True,
                bypassed=("judge",),
                findings=findings,
                billed_models=("main", "ref"),
                reference={"outcome": "ok", "seconds": 0.5, "cost": None},
                prompt="What is \u732b?",
            )
        ]
    )
    (row,) = rows(url)
    assert row.pop("at").replace(tzinfo=UTC) == at if url.startswith("sqlite") else row.pop("at") == at
    assert row == {
        "audit_id": "0" * 32,
        "phase": "request",
        "guardrail": "",
        "route": "",
        "call_id": "c1",
        "model": "",
        "team": "",
        "key": "",
        "end_user": "",
        "action": "flag",
        "effective": "flag",
        "by": "perplexity",
        "dry_run": True,
        "bypassed": ["judge"],
        "findings": findings,
        "replaced_by": "",
        "billed_models": ["main", "ref"],
        "reference": {"outcome": "ok", "seconds": 0.5, "cost": None},
        "prompt": "What is \u732b?",
        "answer": None,
    }


def test_the_table_is_made_once_with_its_indexes(url: str, opened: Open) -> None:
    opened(url).write([record()])
    opened(url).write([record()])
    assert len(rows(url)) == 2, "and the rows that tried it out are gone"
    engine = create_engine(url)
    found = inspect(engine)
    assert [index["column_names"] for index in found.get_indexes("sif_gateway_audit")] == [["at"]]
    assert found.get_pk_constraint("sif_gateway_audit")["constrained_columns"] == ["audit_id", "phase"]
    engine.dispose()


def test_texts_that_databases_refuse(url: str, opened: Open) -> None:
    bad = "a\x00b\ud800c"
    opened(url).write(
        [
            record(
                model=bad,
                end_user=bad * 1000,
                prompt=bad,
                answer=bad,
                bypassed=(bad,),
                findings={bad: {"reason": bad, "x": float("nan"), "y": float("inf")}},
            )
        ]
    )
    (row,) = rows(url)
    clean = "a\ufffdb\ufffdc"
    assert (row["model"], row["prompt"], row["answer"], row["bypassed"]) == (clean, clean, clean, [clean])
    assert row["findings"] == {clean: {"reason": clean, "x": None, "y": None}}


def test_a_batch_that_is_written_again_is_there_once(url: str, opened: Open) -> None:
    """After a connection is lost in the middle of a commit nobody knows whether it took place."""
    sink = opened(url)
    one, other = record(), record()
    sink.write([one])
    sink.write([one, other])
    both = record(audit_id=one.audit_id, phase="response")
    sink.write([both])
    assert len(rows(url)) == 3


WRITER = """
import sys
from gateway_plugin.audit import AuditRecord, open_sink
url, name = sys.argv[1], sys.argv[2]
sys.stdin.readline()
sink = open_sink(url)
def row(number):
    return AuditRecord(phase="request", action="flag", effective="flag", team=name, call_id=str(number))

for batch in range(20):
    sink.write([row(batch * 5 + i) for i in range(5)])
sink.close()
"""


def test_processes_start_and_write_at_once(url: str) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, name], stdin=subprocess.PIPE, text=True)
        for name in ("red", "green", "blue")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    found = rows(url)
    for name in ("red", "green", "blue"):
        assert sorted(int(row["call_id"]) for row in found if row["team"] == name) == list(range(100))


FORKING = """
import os, sys
from gateway_plugin.audit import AuditRecord, open_sink
sink = open_sink(sys.argv[1])
put = lambda name: sink.write([AuditRecord(phase="request", action="flag", effective="flag", call_id=name)])
put("first")
pid = os.fork()
for i in range(40):
    put(f"{'parent' if pid else 'child'} {i}")
sink.close()
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_forked_process_has_connections_of_its_own(url: str) -> None:
    subprocess.run([sys.executable, "-c", FORKING, url], check=True, timeout=60)
    expected = ["first", *(f"{name} {i}" for name in ("parent", "child") for i in range(40))]
    assert sorted(row["call_id"] for row in rows(url)) == sorted(expected)


def refusal(target: str) -> str:
    with pytest.raises(AuditError) as caught:
        open_sink(target)
    said = str(caught.value)
    assert PASSWORD not in said
    assert "\n" not in said
    return said


def test_targets_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all " * 100)
    assert refusal(f"sqlite:///{tmp_path}/no/audit.db") == (
        f"audit table sqlite:///{tmp_path}/no/audit.db: no such folder"
    )
    assert refusal(f"sqlite:///{tmp_path}").endswith("unable to open database file")
    assert refusal(f"sqlite:///{tmp_path}/text.db").endswith("file is not a database")
    assert refusal("sqlite://") == "audit table: a database in memory keeps nothing; name a file"
    assert refusal(f"mysql://u:{PASSWORD}@h/d") == (
        "audit table: mysql is not supported; sqlite and postgresql are"
    )
    assert refusal(f"postgres://u:{PASSWORD}@h/d").startswith("audit table: postgres is not supported")
    assert refusal(f"://{PASSWORD}") == "audit table: not a URL that SQLAlchemy reads"
    assert refusal("postgresql+nodriver://h/d").startswith("audit table: ")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = refusal(f"postgresql+psycopg://u:{PASSWORD}@127.0.0.1:{port}/d?password={PASSWORD}")
    assert said.startswith(f"audit table postgresql+psycopg://u:***@127.0.0.1:{port}/d: connection failed")


def test_a_table_of_another_form_is_refused_at_the_start(url: str) -> None:
    run_sql(url, "CREATE TABLE sif_gateway_audit (audit_id VARCHAR(64) PRIMARY KEY)")
    assert "phase" in refusal(url)


def test_a_new_sqlite_file_is_its_owners_alone(tmp_path: Path, opened: Open) -> None:
    before = os.umask(0)
    try:
        opened(f"sqlite:///{tmp_path}/audit.db").write([record()])
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_locked_sqlite_file_is_a_fault_that_passes(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "audit.db"
    sink = opened(f"sqlite:///{path}?timeout=0.1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(AuditError, match="database is locked"):
        sink.write([record(prompt="private words")])
    other.execute("ROLLBACK")
    other.close()
    sink.write([record()])
    assert len(rows(f"sqlite:///{path}")) == 1


def test_a_role_that_may_only_insert_is_enough(postgres: Postgres, opened: Open) -> None:
    url = new_database(postgres)
    database = url.rpartition("/")[2]
    opened(url).close()
    run_sql(url, f"CREATE ROLE {database} LOGIN PASSWORD '{PASSWORD}'")
    append_only = postgres.url(database, user=database)
    assert refusal(append_only).endswith("permission denied for table sif_gateway_audit")
    run_sql(url, f"GRANT INSERT ON sif_gateway_audit TO {database}")
    opened(append_only).write([record()])
    assert len(rows(url)) == 1
    with pytest.raises(SQLAlchemyError):
        run_sql(append_only, "DELETE FROM sif_gateway_audit")


def test_a_wrong_password_is_said_and_not_shown(postgres: Postgres) -> None:
    said = refusal(postgres.url().replace("sif:pass", "sif:wrong-pass"))
    assert "password authentication failed" in said


def test_a_refused_record_shows_none_of_its_texts(postgres: Postgres, opened: Open) -> None:
    url = new_database(postgres)
    sink = opened(url)
    run_sql(url, "ALTER TABLE sif_gateway_audit ADD CHECK (prompt <> 'private words')")
    with pytest.raises(SQLAlchemyError):
        sink.write([record(prompt="private words")])
    run_sql(url, "ALTER TABLE sif_gateway_audit DROP COLUMN answer")
    with pytest.raises(AuditError) as caught:
        sink.write([record(prompt="private words")])
    assert "private" not in str(caught.value)


def test_a_server_that_goes_away_for_a_while_loses_nothing(postgres: Postgres, opened: Open) -> None:
    url = new_database(postgres)
    lost: list[tuple[str, int]] = []
    log = AuditLog(opened(url), on_lost=lambda kind, count: lost.append((kind, count)), retry_s=0.05)
    for name in range(20):
        log.put(record(call_id=str(name)))
    postgres.stop()
    try:
        for name in range(20, 60):
            log.put(record(call_id=str(name)))
    finally:
        postgres.start()
    log.close(60)
    assert lost == []
    assert sorted(int(row["call_id"]) for row in rows(url)) == list(range(60))


def test_findings_can_be_asked_for_in_sql(url: str, opened: Open) -> None:
    sink = opened(url)
    for window in (10.0, 20_000.0):
        sink.write([record(findings={"perplexity": {"status": "hit", "worst_window": window}})])
    engine = create_engine(url)
    with engine.connect() as connection:
        window = TABLE.c.findings["perplexity"]["worst_window"].as_float()
        found = connection.execute(select(window).where(window > 10_000)).scalars().all()
    engine.dispose()
    assert json.dumps(found) == "[20000.0]"
