"""Taking away what is no longer needed, without touching what the evidence rests on."""

from sqlalchemy import select, update

from probes.store.store import Store
from probes.store.tables import AnswerRow, AskRow, ChainRow, RoundRow

BATCH = 500  # rows a transaction: writers wait no longer than that


def drop_answers(store: Store, target: str, *, pack_id: str, before: float, now: float) -> int:
    """Drop texts and replies of scored answers that arrived before a time (Unix seconds); returns how many.

    Counts, scores, digests and the chain's records stay, so the e-process and the chain hold. A bundle cannot
    be made of answers that are gone: nothing is dropped from a target that has ever been suspicious.
    """
    judged = select(RoundRow.id).where(
        RoundRow.target == target, RoundRow.pack_id == pack_id, RoundRow.verdict.not_in(("none",))
    )
    # settled, not sent: an answer that is not scored yet has its round still running
    old = (
        select(AnswerRow.ask_id)
        .join(AskRow, AskRow.id == AnswerRow.ask_id)
        .join(RoundRow, RoundRow.id == AskRow.round_id)
        .where(AskRow.target == target, AskRow.pack_id == pack_id, AskRow.settled_at < before)
        .where(AnswerRow.dropped_at.is_(None), RoundRow.state != "running")
        .limit(BATCH)
    )
    dropped = 0
    while True:
        with store.writing() as session:
            if session.scalars(judged.limit(1)).first() is not None:
                return dropped
            ids = list(session.scalars(old))
            if not ids:
                return dropped
            taken = {"text": "", "raw": None, "dropped_at": now}
            session.execute(update(AnswerRow).where(AnswerRow.ask_id.in_(ids)).values(**taken))
            session.execute(update(ChainRow).where(ChainRow.ask_id.in_(ids)).values(response=None))
        dropped += len(ids)
