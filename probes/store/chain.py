"""The hash chain of a target's exchanges, written in the transaction that settles them."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from probes.store.engine import Transaction
from probes.store.tables import AskRow, ChainRow, TargetRow
from probes.targets import Answer, AnswerKind
from sif_offline.fingerprint.evidence.transcript import Exchange, Record, exchange, request_body


def link_answer(session: Session, ask: AskRow, answer: Answer, *, kind: AnswerKind) -> None:
    """Append an answer, with the reply as it came."""
    _link(session, ask, outcome=kind, response=answer.as_response())


def link_failure(session: Session, ask: AskRow) -> None:
    """Append an ask that failed or is in doubt: a chain without its failures could hide bad answers."""
    _link(
        session,
        ask,
        outcome=f"{ask.state}:{ask.failure}",
        response={"failure": ask.failure, "reason": ask.reason},
    )


def _link(session: Session, ask: AskRow, *, outcome: str, response: dict[str, Any]) -> None:
    if ask.request is None:  # an intent from before there was a chain
        ask.request = request_body(
            model="",
            endpoint=None,
            image_sha256=ask.image_sha256,
            prompt=ask.prompt,
            max_tokens=ask.max_tokens,
        )
    # where writers do not wait for each other anyway (PostgreSQL), they do so at the target's row: two links
    # of one position would cost one of the answers
    session.execute(select(TargetRow.name).where(TargetRow.name == ask.target).with_for_update())
    newest = (
        select(ChainRow.record)
        .where(ChainRow.target == ask.target, ChainRow.pack_id == ask.pack_id)
        .order_by(ChainRow.position.desc())
        .limit(1)
    )
    last = session.scalar(newest)
    link = exchange(
        None if last is None else Record.model_validate_json(last),
        target=ask.target,
        pack_id=ask.pack_id,
        round=ask.round_id,
        trigger_id=ask.trigger_id,
        control=ask.control,
        attempt=ask.attempt,
        outcome=outcome,
        asked_at=ask.intended_at,
        settled_at=ask.settled_at or ask.intended_at,
        request=ask.request,
        response=response,
    )
    session.add(
        ChainRow(
            target=ask.target,
            pack_id=ask.pack_id,
            position=link.record.index,
            ask_id=ask.id,
            record=link.record.model_dump_json(),
            response=link.response,
        )
    )


def read_chain(transaction: Transaction, target: str, *, pack_id: str) -> tuple[Exchange, ...]:
    """All exchanges with a target, first to last; none where it was never asked."""
    query = (
        select(ChainRow.record, AskRow.request, ChainRow.response)
        .join(AskRow, AskRow.id == ChainRow.ask_id)
        .where(ChainRow.target == target, ChainRow.pack_id == pack_id)
        .order_by(ChainRow.position)
    )
    with transaction as session:
        return tuple(
            Exchange(Record.model_validate_json(record), request, response)
            for record, request, response in session.execute(query)
        )
