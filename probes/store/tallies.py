"""Running totals of each target, kept in the transactions that change them.

Counting months of sends anew for every scrape takes seconds; these rows take a millisecond. Names:
``outcome/hit`` (miss, refusal, error), ``error/KIND``, ``tokens/prompt`` (completion), ``cost``, ``rounds``,
``duration`` (seconds), ``duration/BOUND`` (cumulative, as in a histogram), and ``last/ended``, ``last/good``,
``last/scored``: the id of the newest such round.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from probes.store.tables import AnswerRow, AskRow, TallyRow

SCORED = ("outcome/hit", "outcome/miss")
"""Together they count the scored answers to triggers."""

DURATION_BOUNDS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)

_ASKS = "asks.target, asks.pack_id"
_ROUNDS = "rounds.target, rounds.pack_id"
_ENDED = "FROM rounds WHERE finished_at IS NOT NULL"
_COUNTS = (
    f"""SELECT {_ASKS}, CASE WHEN scores.hit THEN 'outcome/hit' ELSE 'outcome/miss' END AS name, COUNT(*)
        FROM asks JOIN scores ON scores.ask_id = asks.id WHERE asks.control = false
        GROUP BY {_ASKS}, CASE WHEN scores.hit THEN 'outcome/hit' ELSE 'outcome/miss' END""",
    f"""SELECT {_ASKS}, 'outcome/refusal', COUNT(*) FROM asks JOIN answers ON answers.ask_id = asks.id
        WHERE asks.control = false AND answers.kind <> 'answer' GROUP BY {_ASKS}""",
    f"""SELECT {_ASKS}, 'outcome/error', COUNT(*) FROM asks
        WHERE asks.control = false AND asks.final = true GROUP BY {_ASKS}""",
    f"""SELECT {_ASKS}, 'error/' || asks.failure, COUNT(*) FROM asks
        WHERE asks.failure IS NOT NULL GROUP BY {_ASKS}, asks.failure""",
    *(
        f"""SELECT {_ASKS}, '{name}', SUM(answers.{column}) FROM asks JOIN answers ON answers.ask_id = asks.id
            WHERE answers.{column} IS NOT NULL GROUP BY {_ASKS}"""
        for name, column in (
            ("tokens/prompt", "prompt_tokens"),
            ("tokens/completion", "completion_tokens"),
            ("cost", "cost_usd"),
        )
    ),
    f"SELECT {_ROUNDS}, 'rounds', COUNT(*) {_ENDED} GROUP BY {_ROUNDS}",
    f"SELECT {_ROUNDS}, 'duration', SUM(finished_at - started_at) {_ENDED} GROUP BY {_ROUNDS}",
    *(
        f"""SELECT {_ROUNDS}, 'duration/{bound:g}', COUNT(*) {_ENDED}
            AND finished_at - started_at <= {bound} GROUP BY {_ROUNDS}"""
        for bound in DURATION_BOUNDS_S
    ),
    f"SELECT {_ROUNDS}, 'last/ended', MAX(id) {_ENDED} GROUP BY {_ROUNDS}",
    f"SELECT {_ROUNDS}, 'last/good', MAX(id) {_ENDED} AND state IN ('complete', 'idle') GROUP BY {_ROUNDS}",
    f"SELECT {_ROUNDS}, 'last/scored', MAX(id) {_ENDED} AND log_pvalue IS NOT NULL GROUP BY {_ROUNDS}",
)


def recount(connection: Connection) -> None:
    """Make every tally anew from what the tables hold (seconds a million sends)."""
    connection.execute(text("DELETE FROM tallies"))
    for counts in _COUNTS:
        # every count is a constant of this module
        connection.execute(text(f"INSERT INTO tallies (target, pack_id, name, value) {counts}"))


def recount_hits(session: Session, target: str, *, pack_id: str) -> None:
    """Make a target's hits and misses anew: they changed with its scores."""
    mine = {"of_target": target, "of_pack": pack_id}
    delete = text(
        "DELETE FROM tallies WHERE target = :of_target AND pack_id = :of_pack AND name IN :names"
    ).bindparams(bindparam("names", expanding=True))
    session.execute(delete, {**mine, "names": SCORED})
    counts = _COUNTS[0].replace("WHERE", "WHERE asks.target = :of_target AND asks.pack_id = :of_pack AND")
    session.execute(
        text(f"INSERT INTO tallies (target, pack_id, name, value) {counts}"),
        mine,
    )


def count_answer(session: Session, ask: AskRow, answer: AnswerRow) -> None:
    """An answer was stored."""
    amounts = {
        "tokens/prompt": answer.prompt_tokens,
        "tokens/completion": answer.completion_tokens,
        "cost": answer.cost_usd,
        "outcome/refusal": 1 if answer.kind != "answer" and not ask.control else 0,
    }
    _add(session, ask.target, ask.pack_id, {name: float(value) for name, value in amounts.items() if value})


def count_failure(session: Session, ask: AskRow) -> None:
    """An ask failed, or was put in doubt."""
    amounts = {f"error/{ask.failure}": 1.0}
    if ask.final and not ask.control:
        amounts["outcome/error"] = 1.0
    _add(session, ask.target, ask.pack_id, amounts)


def uncount_failure(session: Session, ask: AskRow) -> None:
    """The answer of an ask that was given up came after all; that something went wrong stays counted."""
    if not ask.control:
        _add(session, ask.target, ask.pack_id, {"outcome/error": -1.0})


def count_score(session: Session, ask: AskRow, *, hit: bool) -> None:
    """An answer was scored; controls are no trials."""
    if not ask.control:
        _add(session, ask.target, ask.pack_id, {f"outcome/{'hit' if hit else 'miss'}": 1.0})


def count_round(
    session: Session, target: str, pack_id: str, *, round_id: int, state: str, scored: bool, seconds: float
) -> None:
    """A round ended."""
    amounts = {f"duration/{bound:g}": 1.0 for bound in DURATION_BOUNDS_S if seconds <= bound}
    _add(session, target, pack_id, {"rounds": 1.0, "duration": seconds, **amounts})
    last = ["last/ended"]
    last += ["last/good"] if state in ("complete", "idle") else []
    last += ["last/scored"] if scored else []
    _add(session, target, pack_id, dict.fromkeys(last, float(round_id)), instead=True)


def _add(
    session: Session, target: str, pack_id: str, amounts: Mapping[str, float], *, instead: bool = False
) -> None:
    """Add to tallies, or with ``instead`` put the amounts in their place. Rows are locked in one order."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    rows: Sequence[dict[str, object]] = [
        {"target": target, "pack_id": pack_id, "name": name, "value": value}
        for name, value in sorted(amounts.items())
    ]
    if rows:
        insert = dialect.insert(TallyRow).values(rows)
        value = insert.excluded.value if instead else TallyRow.value + insert.excluded.value
        key = ("target", "pack_id", "name")
        session.execute(insert.on_conflict_do_update(index_elements=key, set_={"value": value}))
