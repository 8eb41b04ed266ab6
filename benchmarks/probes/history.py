"""Months of rounds in a store without having lived them: one real round, copied back in time, to all targets.

The real round is made by the watch itself; its copies get smaller ids and earlier times, so that whatever
comes next finds the order of a life. The oldest copies bring the new types; the later ones none (a greedy
endpoint repeats itself) or two more each until the words run out (a sampled one).
"""

from collections.abc import Sequence

from sqlalchemy import Connection, MetaData, text

from probes.store import Store
from probes.store.tallies import recount

HOUR_S = 3600.0
SAMPLED_ROUNDS = 400
"""Rounds after which a sampled endpoint has used the tiny pack's words up."""

# numbers(n, name): the targets; back(r): how many hours ago; the real round is the one with the largest ids
_COPIES = {
    "rounds": {
        "id": "-(r * :targets + n + 1)",
        "target": "name",
        "started_at": "rounds.started_at - (r + 1) * :hour_s",
        "finished_at": "rounds.finished_at - (r + 1) * :hour_s",
    },
    "asks": {
        "id": "-((r * :targets + n + 1) * :asks - (asks.id - :first_ask))",
        "round_id": "-(r * :targets + n + 1)",
        "target": "name",
        "intended_at": "asks.intended_at - (r + 1) * :hour_s",
        "settled_at": "asks.settled_at - (r + 1) * :hour_s",
    },
    "answers": {"ask_id": "-((r * :targets + n + 1) * :asks - (answers.ask_id - :first_ask))"},
    "scores": {
        "ask_id": "-((r * :targets + n + 1) * :asks - (scores.ask_id - :first_ask))",
        "new_types": "{new_types}",
    },
    "chain": {
        "target": "name",
        "position": "chain.position - (r + 1) * :asks",
        "ask_id": "-((r * :targets + n + 1) * :asks - (chain.ask_id - :first_ask))",
    },
}
_REPEATED = "CAST('[]' AS JSON)"
_TWO_MORE = (
    "CAST('[[' || CAST(200 + 2 * (:rounds - r) AS TEXT) || ',1],[' "
    "|| CAST(201 + 2 * (:rounds - r) AS TEXT) || ',0]]' AS JSON)"
)


def extend(store: Store, names: Sequence[str], *, rounds: int, sampled: bool = False) -> int:
    """Copy the store's one round to ``rounds`` earlier hours of each target.

    Args:
        store: holds one finished round of one of the targets, and nothing else.
        names: all targets, none of them more than once.
        rounds: how many earlier rounds each target gets.
        sampled: later rounds bring new types too.

    Returns:
        The number of asks that were added.
    """
    with store.engine.begin() as connection:
        first, asks = connection.execute(text("SELECT min(id), count(*) FROM asks")).one()
        connection.execute(text("CREATE TEMPORARY TABLE numbers (n INTEGER, name VARCHAR(63))"))
        connection.execute(text("CREATE TEMPORARY TABLE back (r INTEGER)"))
        connection.execute(
            text("INSERT INTO numbers VALUES (:n, :name)"),
            [{"n": n, "name": name} for n, name in enumerate(names)],
        )
        connection.execute(text("INSERT INTO back VALUES (:r)"), [{"r": r} for r in range(rounds)])
        values = {
            "targets": len(names),
            "hour_s": HOUR_S,
            "asks": asks,
            "first_ask": first,
            "rounds": rounds,
            "talking": SAMPLED_ROUNDS if sampled else 0,
        }
        for table in _COPIES:
            _copy(connection, table, values)
        for made in ("numbers", "back"):
            connection.execute(text(f"DROP TABLE {made}"))
    with store.engine.begin() as connection:
        recount(connection)
        connection.execute(text("ANALYZE"))
    return len(names) * rounds * int(asks)


def _copy(connection: Connection, table: str, values: dict[str, float]) -> None:
    """Insert the copies of one table, oldest first, as they would have come."""
    json_type = "TEXT" if connection.dialect.name == "sqlite" else "JSON"
    oldest, later = "scores.new_types", _REPEATED
    new_types = (
        f"CASE WHEN r = :rounds - 1 THEN {oldest} "
        f"WHEN r >= :rounds - 1 - :talking AND scores.types > 0 THEN {_TWO_MORE} ELSE {later} END"
    ).replace("AS JSON", f"AS {json_type}")
    metadata = MetaData()
    metadata.reflect(connection, only=[table])
    columns = [column.name for column in metadata.tables[table].columns]
    changed = _COPIES[table]
    picked = [changed.get(name, f"{table}.{name}").format(new_types=new_types) for name in columns]
    statement = (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(picked)} "
        f"FROM back CROSS JOIN numbers CROSS JOIN {table} ORDER BY r DESC, n"
    )
    used = {name: value for name, value in values.items() if f":{name}" in statement}
    connection.execute(text(statement), used)
