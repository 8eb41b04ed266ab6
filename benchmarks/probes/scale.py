"""1,000 targets x 16 triggers, hourly: what it costs a machine of two cores, and what grows with the months.

    python -m benchmarks.probes.scale [--targets 1000] [--back 24 168] [--due 50] [--window 180 60]
    python -m benchmarks.probes.scale --parts scrape load --postgres    # on a server of its own

Parts: ``growth`` (CPU of a round by the length of its target's history), ``asking`` (litellm's share),
``scrape`` (/metrics over a store of so many targets and rounds), ``load`` (a share of the targets comes due:
``--due`` of them in ``--window`` seconds, and as many others in each further window; 50 in 180 seconds are
the rate of all 1,000 in an hour, 50 in 60 three times that). CPU seconds a round carry over to the hour, as
1,000 rounds an hour are what 1,000 targets ask for; the extrapolation is that product and no more.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.probes.growth import Growth, measure_asking, measure_growth
from benchmarks.probes.load import (
    Load,
    Scrape,
    endpoint_process,
    forget_schedule,
    measure_load,
    measure_scrape,
    target_names,
)
from probes.store import Store, open_store
from probes.store.tables import Base
from probes.testing.postgres import PostgresServer
from probes.testing.tiny_pack import build_tiny_pack

PARTS = ("growth", "asking", "scrape", "load")
TRIGGERS = 16


@contextmanager
def _server(wanted: bool) -> Iterator[PostgresServer | None]:
    """A PostgreSQL server whose commits wait for the disk, where one is wanted."""
    if not wanted:
        yield None
        return
    with PostgresServer(durable=True) as server:
        yield server


@contextmanager
def _store(url: str | None, folder: Path, name: str) -> Iterator[Store]:
    """A new SQLite file, or the database behind ``url``, which must be empty and is emptied in the end."""
    with open_store(url or f"sqlite:///{folder / name}.sqlite") as store:
        try:
            yield store
        finally:
            if url is not None:
                with store.engine.begin() as connection:
                    Base.metadata.drop_all(connection)
                    connection.execute(text("DROP TABLE alembic_version"))
                    forget_schedule(connection)
    if url is None:
        for part in folder.glob(f"{name}.sqlite*"):
            part.unlink()


def measure(
    *,
    parts: Sequence[str],
    targets: int,
    lengths: Sequence[int],
    back: Sequence[int],
    due: int,
    windows_s: Sequence[float],
    lead_s: float,
    questions: int,
    store_url: str | None,
    postgres: bool,
    work: Path | None,
) -> dict[str, Any]:
    """All parts asked for, by name; ``back``: hours that targets have lived; the load runs on the first."""
    found: dict[str, Any] = {}
    names = target_names(targets)
    with tempfile.TemporaryDirectory(dir=work) as made:
        folder = Path(made)
        tiny = build_tiny_pack(folder / "pack", triggers=TRIGGERS)
        if "growth" in parts:
            found["growth"] = measure_growth(lengths=lengths, triggers=TRIGGERS)
        with endpoint_process(tiny) as url, _server(postgres) as server:
            if "asking" in parts:
                found["asking"] = measure_asking(url, tiny, questions=questions)
            for number, rounds_back in enumerate(back):
                if not {"scrape", "load"} & set(parts):
                    break
                name = f"back_{rounds_back}"
                database = store_url if server is None else server.create(name)
                with _store(database, folder, name) as store:
                    scrape = measure_scrape(store, tiny, names, rounds_back=rounds_back)
                    found.setdefault("scrape", []).append(scrape)
                    if "load" in parts and number == 0:
                        found["load"] = [
                            measure_load(
                                store,
                                tiny,
                                names,
                                folder=folder,
                                url=url,
                                due=names[place * due : (place + 1) * due],
                                window_s=window_s,
                                lead_s=lead_s,
                                database_pid=None if server is None else server.pid,
                            )
                            for place, window_s in enumerate(windows_s)
                        ]
    return found


def print_tables(found: dict[str, Any]) -> None:
    """Markdown, as in docs/benchmarks-probes.md."""
    say = sys.stdout.write
    if "growth" in found:
        _print_growth(found["growth"])
    if "asking" in found:
        said = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in found["asking"].items())
        say(f"CPU a question: {said}\n\n")
    if "scrape" in found:
        _print_scrapes(found["scrape"])
    if "load" in found:
        _print_loads(found["load"])


def _print_growth(rows: Sequence[Growth]) -> None:
    say = sys.stdout.write
    stages = sorted(rows[-1].stages_cpu_s, key=lambda name: -rows[-1].stages_cpu_s[name])
    say("| rounds before | target | replaying all (ms) | CPU of a round (ms) | ")
    say(f"{' | '.join(stages)} | KB an ask |\n|{'---|' * (len(stages) + 5)}\n")
    for row in rows:
        spent = " | ".join(f"{row.stages_cpu_s[name] * 1000:.0f}" for name in stages)
        size = row.size / row.asks / 1000
        say(f"| {row.rounds:,} | {row.speech} | {row.replay_cpu_s * 1000:.0f} | {row.cpu_s * 1000:.0f} | ")
        say(f"{spent} | {size:.1f} |\n")
    say("\n")


def _print_scrapes(rows: Sequence[Scrape]) -> None:
    say = sys.stdout.write
    say("| targets | rounds each | asks | filled in (s) | scrape, the first and two more (s) | CPU (s) |\n")
    say("|---|---|---|---|---|---|\n")
    for row in rows:
        seconds, cpu = (", ".join(f"{value:.2f}" for value in values) for values in (row.seconds, row.cpu_s))
        say(
            f"| {row.targets:,} | {row.rounds_back:,} | {row.asks:,} | {row.fill_s:.0f} | {seconds} | "
            f"{cpu} |\n"
        )
    say("\nSlowest statements of the last:\n")
    for slow in rows[-1].slowest:
        say(f"- {slow['seconds']:.2f} s: {slow['sql']}\n")
        for line in slow["plan"]:
            say(f"      {line}\n")
    say("\n")


def _print_loads(loads: Sequence[Load]) -> None:
    columns = [_figures(load) for load in loads]
    sys.stdout.write(f"| figure |{' |' * len(columns)}\n|{'---|' * (len(columns) + 1)}\n")
    for name in columns[0]:
        sys.stdout.write(f"| {name} | {' | '.join(column[name] for column in columns)} |\n")


def _figures(load: Load) -> dict[str, str]:
    first, *later = load.scrapes_s
    database = "none" if load.database_cpu_s is None else f"{load.database_cpu_s / load.due:.3f}"
    return {
        "targets served, due, finished": f"{load.targets:,}, {load.due:,}, {load.finished:,}",
        "due within, all finished after (s)": f"{load.window_s:.0f}, {load.took_s:.0f}",
        "rate, in rounds an hour": f"{load.due / load.window_s * 3600:,.0f}",
        "CPU a round (s), scrapes included": f"{load.cpu_s_a_round:.3f}",
        "CPU a round of the database's server (s)": database,
        f"share of an hour of two cores at {load.targets:,} rounds an hour": (
            f"{load.share_of_an_hour_of_two_cores:.1%}"
        ),
        "resident (MB)": f"{load.rss_mb:.0f}",
        "start: until ready, CPU (s)": f"{load.start_s:.1f}, {load.start_cpu_s:.1f}",
        "lag from due to started: median, 99 %, longest (s)": (
            f"{load.lag_median_s:.2f}, {load.lag_p99_s:.2f}, {load.lag_max_s:.2f}"
        ),
        "scrapes over HTTP meanwhile: how many, the first, median and longest of the others (s)": (
            f"{len(load.scrapes_s)}, {first:.2f}, "
            + (f"{statistics.median(later):.2f}, {max(later):.2f}" if later else "none")
        ),
        "the page (s)": f"{load.page_s:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--lengths", type=int, nargs="+", default=[0, 168, 720, 2160], help="for growth")
    parser.add_argument("--back", type=int, nargs="+", default=[24, 168], help="for scrape; load: the first")
    parser.add_argument("--due", type=int, default=50, help="targets a window")
    parser.add_argument(
        "--window", type=float, nargs="+", default=[180.0, 60.0], dest="windows_s", help="seconds, for load"
    )
    parser.add_argument("--lead", type=float, default=60.0, dest="lead_s", help="seconds to start up in")
    parser.add_argument("--questions", type=int, default=100, help="for asking")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--store", dest="store_url", help="an EMPTY database for scrape and load")
    where.add_argument(
        "--postgres", action="store_true", help="start a PostgreSQL server for scrape and load"
    )
    parser.add_argument("--work", type=Path, help="folder for the databases, gigabytes")
    parser.add_argument("--json", type=Path, help="also write everything here")
    settings = vars(parser.parse_args())
    target = settings.pop("json")
    found = measure(**settings)
    print_tables(found)
    if target is not None:
        plain = {name: _plain(value) for name, value in found.items()}
        shown = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
        shown.pop("store_url")  # it may hold a password
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({"settings": shown, **plain}, indent=1) + "\n", "utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [asdict(row) for row in value]
    return value if isinstance(value, dict) else asdict(value)


if __name__ == "__main__":
    main()
