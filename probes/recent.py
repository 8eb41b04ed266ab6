"""The last rounds as the debug page has them: what was asked when, and what became of it.

No texts, prompts or pictures; the reasons of failures were stored without credentials.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from probes.store import Store
from probes.store.tables import AnswerRow, AskRow, RoundRow

_ROUND = (
    RoundRow.id,
    RoundRow.target,
    RoundRow.state,
    RoundRow.started_at,
    RoundRow.finished_at,
    RoundRow.planned,
    RoundRow.answered,
    RoundRow.scored,
    RoundRow.z,
    RoundRow.threshold_z,
    RoundRow.control_z,
    RoundRow.log_e,
    RoundRow.verdict,
)
_ASK = (
    AskRow.round_id,
    AskRow.trigger_id,
    AskRow.control,
    AskRow.attempt,
    AskRow.state,
    AskRow.intended_at,
    AskRow.settled_at,
    AskRow.failure,
    AskRow.reason,
    AnswerRow.kind,
    AnswerRow.finish_reason,
    AnswerRow.latency_s,
)


def recent_rounds(store: Store, targets: Sequence[str], *, pack_id: str, limit: int) -> list[dict[str, Any]]:
    """The newest rounds of these targets, newest first, each with its ``asks``; times in Unix seconds.

    ``log_e`` is a natural log. Raises StoreError.
    """
    newest = (
        select(*_ROUND)
        .where(RoundRow.target.in_(targets), RoundRow.pack_id == pack_id)
        .order_by(RoundRow.id.desc())
        .limit(limit)
    )
    with store.reading() as session:
        rounds = {row.id: {**row._mapping, "asks": []} for row in session.execute(newest)}
        asks = (
            select(*_ASK)
            .outerjoin(AnswerRow, AnswerRow.ask_id == AskRow.id)
            .where(AskRow.round_id.in_(rounds))
            .order_by(AskRow.id)
        )
        for row in session.execute(asks):
            ask = dict(row._mapping)
            rounds[ask.pop("round_id")]["asks"].append(ask)
    return list(rounds.values())
