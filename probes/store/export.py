"""Every send with what became of it, as flat rows for other people's tools."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select

from probes.store.store import Store
from probes.store.tables import AnswerRow, AskRow, ScoreRow

COLUMNS = (
    "ask_id",
    "target",
    "pack_id",
    "round_id",
    "trigger_id",
    "control",
    "attempt",
    "image_sha256",
    "prompt",
    "max_tokens",
    "state",
    "failure",
    "reason",
    "intended_at",
    "settled_at",
    "kind",
    "text",
    "finish_reason",
    "served_model",
    "latency_s",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "types",
    "greens",
    "z",
    "log_pvalue",
    "hit",
)
"""Times are Unix seconds, latencies seconds, logarithms natural."""

_OF = dict.fromkeys(COLUMNS[:15], AskRow) | dict.fromkeys(COLUMNS[15:23], AnswerRow)


def exported(store: Store, targets: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """One row a send, oldest first; ``targets``: only theirs. Columns without a value are None."""
    columns: list[Any] = [AskRow.id]
    columns += [getattr(_OF.get(name, ScoreRow), name) for name in COLUMNS[1:]]
    query = (
        select(*columns)
        .outerjoin(AnswerRow, AnswerRow.ask_id == AskRow.id)
        .outerjoin(ScoreRow, ScoreRow.ask_id == AskRow.id)
        .order_by(AskRow.id)
    )
    if targets is not None:
        query = query.where(AskRow.target.in_(targets))
    with store.reading() as session:
        for row in session.execute(query).yield_per(1000):
            yield dict(zip(COLUMNS, row, strict=True))
