"""A thousand targets in one service: scrapes over a filled store, and an hour's rounds in less than an hour.

The service is the real ``sif-probes serve`` in a process of its own, and so is the scripted endpoint, whose
CPU time is not counted.
"""

import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import httpx
import yaml
from sqlalchemy import Connection, event, func, select, text, update

from benchmarks.probes.growth import FromMemory, run_round
from benchmarks.probes.history import HOUR_S, extend
from probes.metrics import StoreCollector
from probes.scheduling.ticks import SCHEMA
from probes.store import Store
from probes.store.tables import RoundRow, TargetRow
from probes.testing.endpoint import Question, ScriptedEndpoint
from probes.testing.tiny_pack import ANSWER_WORDS, TinyPack

INTERVAL_S = 3600.0
SCRAPE_EVERY_S = 15.0


@dataclass(frozen=True)
class Scrape:
    """One filled store: seconds of a scrape (the first, and two more while nothing changes), and its slowest
    statements with their plans.
    """

    targets: int
    rounds_back: int
    asks: int
    fill_s: float
    seconds: list[float]
    cpu_s: list[float]
    slowest: list[dict[str, Any]]


@dataclass(frozen=True)
class Load:
    """The rounds of ``due`` targets within ``window_s``, out of ``targets`` in the service.

    ``cpu_s``: of the service from the first due time until the last round had ended, scrapes included;
    ``database_cpu_s`` of the database's own processes, None where it has none that we know. Lags in seconds
    from due to the round's row. ``scrapes_s``: one every fifteen seconds, over HTTP, in order.
    """

    targets: int
    due: int
    finished: int
    window_s: float
    took_s: float
    cpu_s: float
    database_cpu_s: float | None
    cpu_s_a_round: float
    share_of_an_hour_of_two_cores: float
    start_s: float
    start_cpu_s: float
    rss_mb: float
    lag_median_s: float
    lag_p99_s: float
    lag_max_s: float
    scrapes_s: list[float]
    page_s: float


def target_names(count: int) -> list[str]:
    """The names of the targets, first to last."""
    return [f"t{number:05d}" for number in range(count)]


def fill(store: Store, tiny: TinyPack, names: Sequence[str], *, rounds_back: int) -> int:
    """A store in which every target has lived ``rounds_back`` hours; returns the number of asks."""
    with store.engine.begin() as connection:
        rows = [
            {
                "name": name,
                "model": "openai/x",
                "authorised_by": "the benchmark",
                "purpose": "scale",
                "pack_id": tiny.pack.pack_id,
                "interval_s": INTERVAL_S,
                "alpha": 1e-6,
                "updated_at": 0.0,
            }
            for name in names
        ]
        connection.execute(TargetRow.__table__.insert(), rows)  # type: ignore[attr-defined]
    run_round(store, FromMemory(names[0], tiny), tiny, at=time.time() - 2 * HOUR_S)
    return extend(store, names, rounds=rounds_back)


def measure_scrape(store: Store, tiny: TinyPack, names: Sequence[str], *, rounds_back: int) -> Scrape:
    """Fill the store and scrape it three times in this process."""
    began = time.monotonic()
    asks = fill(store, tiny, names, rounds_back=rounds_back)
    fill_s = time.monotonic() - began
    collector = StoreCollector(store, watched=lambda: (names, tiny.pack.pack_id))
    seconds, cpu_s = [], []
    for _ in range(3):
        wall, cpu = time.monotonic(), time.process_time()
        collector.exposition()
        seconds.append(time.monotonic() - wall)
        cpu_s.append(time.process_time() - cpu)
    with _statements(store) as statements:
        collector.exposition()
    statements = [found for found in statements if found["sql"].lstrip().startswith("SELECT")]
    statements.sort(key=lambda found: -found["seconds"])
    slowest = [
        {"seconds": found["seconds"], "sql": _short(found["sql"]), "plan": _plan(store, found)}
        for found in statements[:3]
    ]
    return Scrape(len(names), rounds_back, asks, fill_s, seconds, cpu_s, slowest)


@contextmanager
def _statements(store: Store) -> Iterator[list[dict[str, Any]]]:
    """Every statement with its seconds until the first row (all rows, where it groups)."""
    found: list[dict[str, Any]] = []

    def before(connection: Any, cursor: Any, sql: str, parameters: Any, context: Any, many: bool) -> None:
        found.append({"sql": sql, "parameters": parameters, "began": time.monotonic(), "seconds": 0.0})

    def after(*_: Any) -> None:
        found[-1]["seconds"] = time.monotonic() - found[-1]["began"]

    event.listen(store.engine, "before_cursor_execute", before)
    event.listen(store.engine, "after_cursor_execute", after)
    try:
        yield found
    finally:
        event.remove(store.engine, "before_cursor_execute", before)
        event.remove(store.engine, "after_cursor_execute", after)


def _short(sql: str) -> str:
    """A statement in one line, its list of a thousand placeholders shortened."""
    line = " ".join(sql.split())
    start = line.find("IN (")
    if start >= 0:
        line = line[: start + 4] + "..." + line[line.index(")", start) :]
    return line[:300]


def _plan(store: Store, found: dict[str, Any]) -> list[str]:
    sqlite = store.engine.dialect.name == "sqlite"
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            f"{'EXPLAIN QUERY PLAN' if sqlite else 'EXPLAIN'} {found['sql']}", found["parameters"]
        )
        return [str(row[-1])[:160] for row in rows][:12]


def _serve_endpoint(pipe: Pipe, words: Sequence[str]) -> None:
    def rule(question: Question) -> str:
        rng = random.Random(question.image_sha256)
        return "x " + " ".join(rng.sample(words, ANSWER_WORDS))

    with ScriptedEndpoint(rule, delay_s=0.05) as endpoint:
        pipe.send(endpoint.url)
        while True:
            endpoint.questions.clear()  # they hold pictures
            if pipe.poll(1.0):
                return


@contextmanager
def endpoint_process(tiny: TinyPack) -> Iterator[str]:
    """A scripted endpoint in a process of its own; its URL."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve_endpoint, args=(theirs, tiny.words))
    process.start()
    try:
        yield str(ours.recv())
    finally:
        ours.send("stop")
        process.join(timeout=10)


def measure_load(
    store: Store,
    tiny: TinyPack,
    names: Sequence[str],
    *,
    folder: Path,
    url: str,
    due: Sequence[str],
    window_s: float,
    lead_s: float,
    database_pid: int | None,
) -> Load:
    """Serve all targets of a filled store, of which those ``due`` come due evenly within ``window_s``.

    ``lead_s``: from the start of the service to the first due round; it has to be ready by then.
    ``database_pid``: parent of the database's processes, None where it has none.
    """
    config = folder / "probes.yaml"
    # with its password: SQLAlchemy's own text hides it
    store_url = store.engine.url.render_as_string(hide_password=False)
    config.write_text(yaml.safe_dump(_config(tiny, names, url=url, store_url=store_url)), "utf-8")
    first_due = time.time() + lead_s
    due_at = {name: first_due + number * window_s / len(due) for number, name in enumerate(due)}
    with store.engine.begin() as connection:
        forget_schedule(connection)
        lived = connection.scalar(select(func.max(RoundRow.id)))
        newest = select(func.max(RoundRow.id)).group_by(RoundRow.target)
        connection.execute(update(RoundRow).where(RoundRow.id.in_(newest)).values(started_at=time.time()))
        for name, at in due_at.items():
            latest = select(func.max(RoundRow.id)).where(RoundRow.target == name).scalar_subquery()
            connection.execute(
                update(RoundRow).where(RoundRow.id == latest).values(started_at=at - INTERVAL_S)
            )
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", "from probes.cli import main; main()", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        ready = process.stdout.readline() if process.stdout else ""
        if not ready.startswith("ready "):
            raise RuntimeError(f"sif-probes serve ended with {process.wait()}")
        base, start_s = ready.split()[1], time.monotonic() - began
        start_cpu_s, _ = usage(process.pid)
        scrapes: list[float] = []
        stop = threading.Event()
        scraper = threading.Thread(target=_scrape, args=(f"{base}/metrics", scrapes, stop))
        time.sleep(max(0.0, first_due - time.time()))
        before_s, _ = usage(process.pid)
        database_before_s = None if database_pid is None else family_cpu_s(database_pid)
        scraper.start()
        deadline = time.time() + window_s * 3 + 120
        while time.time() < deadline and _finished(store, lived) < len(due):
            time.sleep(0.5)
        took_s = time.time() - first_due
        stop.set()
        scraper.join()
        cpu_s, rss_mb = usage(process.pid)
        database_cpu_s = None
        if database_pid is not None and database_before_s is not None:
            database_cpu_s = family_cpu_s(database_pid) - database_before_s
        page = time.monotonic()
        httpx.get(f"{base}/", timeout=60).raise_for_status()
        page_s = time.monotonic() - page
    finally:
        process.terminate()
        process.wait(timeout=60)
    query = select(RoundRow.target, RoundRow.started_at).where(RoundRow.id > lived)
    with store.reading() as session:
        lags = sorted(started - due_at[name] for name, started in session.execute(query))
    cpu_s -= before_s
    return Load(
        targets=len(names),
        due=len(due),
        finished=_finished(store, lived),
        window_s=window_s,
        took_s=took_s,
        cpu_s=cpu_s,
        database_cpu_s=database_cpu_s,
        cpu_s_a_round=cpu_s / len(due),
        share_of_an_hour_of_two_cores=(cpu_s + (database_cpu_s or 0)) / len(due) * len(names) / (2 * HOUR_S),
        start_s=start_s,
        start_cpu_s=start_cpu_s,
        rss_mb=rss_mb,
        lag_median_s=statistics.median(lags),
        lag_p99_s=lags[int(0.99 * (len(lags) - 1))],
        lag_max_s=lags[-1],
        scrapes_s=scrapes,
        page_s=page_s,
    )


def forget_schedule(connection: Connection) -> None:
    """On PostgreSQL the next service would go on with the schedule of the one before."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))


def _config(tiny: TinyPack, names: Sequence[str], *, url: str, store_url: str) -> dict[str, Any]:
    said = {"model": "openai/x", "api_base": url, "authorised_by": "the benchmark", "purpose": "scale"}
    return {
        "pack": str(tiny.folder),
        "trigger_keys": str(tiny.keys_path),
        "store": store_url,
        "listen": {"port": 0},
        "interval": INTERVAL_S,
        "triggers_per_round": len(tiny.pack.triggers),
        "clean_share": 0.25,
        "targets": [{"name": name, **said} for name in names],
    }


def _finished(store: Store, lived: int | None) -> int:
    query = select(func.count()).where(RoundRow.id > lived, RoundRow.finished_at.is_not(None))
    with store.reading() as session:
        return session.scalar(query) or 0


def _scrape(url: str, seconds: list[float], stop: threading.Event) -> None:
    while not stop.is_set():
        began = time.monotonic()
        httpx.get(url, timeout=120).raise_for_status()
        seconds.append(time.monotonic() - began)
        stop.wait(SCRAPE_EVERY_S)


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds so far and resident MB of a process."""
    fields = _stat(pid)
    return _seconds(fields[11:13]), int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def family_cpu_s(pid: int) -> float:
    """CPU seconds so far of a process and its children, those that ended included."""
    found = _seconds(_stat(pid)[11:15])
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = _stat(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found += _seconds(fields[11:13])
    return found


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _seconds(ticks: Sequence[str]) -> float:
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
