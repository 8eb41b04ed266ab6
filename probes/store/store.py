"""Everything the watch writes, each call one transaction."""

from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker

from probes.store import chain, lease, tallies
from probes.store.engine import LeaseLostError, Transaction, open_engine
from probes.store.limits import Held, SendLimits, held, may_have_been_seen
from probes.store.tables import AnswerRow, AskRow, LeaseRow, RoundRow, ScoreRow, TargetRow
from probes.targets import Answer, AnswerKind, AskFailure


@dataclass(frozen=True)
class Unscored:
    """A stored answer that waits for its score."""

    ask_id: int
    round_id: int
    trigger_id: str
    control: bool
    text: str


@dataclass(frozen=True)
class LastSend:
    """When a trigger last went out to a target (Unix seconds) and how often it ever did."""

    at: float
    times: int


class Store:
    """The store behind a URL. Safe to use from several threads and, with its leases, several processes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        # readers do not wait for writers in WAL mode, unless they ask for the write lock too
        self._readers = sessionmaker(engine.execution_options(sif_begin="BEGIN"), expire_on_commit=False)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record_target(self, row: TargetRow) -> None:
        """Insert or replace a target's row: who allowed its watch, and why."""
        try:
            with self.writing() as session:
                session.merge(row)
        except IntegrityError:  # another replica inserted it at the same moment
            with self.writing() as session:
                session.merge(row)

    # -- leases

    def take_lease(self, target: str, *, holder: str, now: float, ttl_s: float) -> bool:
        """Take the right to run a round; False where a living process has it."""
        try:
            with self.writing() as session:
                row = session.get(LeaseRow, target, with_for_update=True)
                if row is None:
                    session.add(LeaseRow(target=target, holder=holder, expires_at=now + ttl_s))
                elif now < row.expires_at <= now + lease.LONGEST_S and not lease.is_dead(row.holder):
                    return False  # one that lasts longer was taken while a clock was ahead
                else:
                    row.holder, row.expires_at = holder, now + ttl_s
        except IntegrityError:  # two processes inserted the first lease of a target at once
            return False
        return True

    def give_back_lease(self, target: str, *, holder: str) -> None:
        """End the lease if it is still ours, in one statement."""
        with self.writing() as session:
            session.execute(delete(LeaseRow).where(LeaseRow.target == target, LeaseRow.holder == holder))

    # -- rounds

    def recover(self, target: str, *, pack_id: str, now: float) -> list[int]:
        """Put in doubt what a dead process left open (the lease is ours). Returns its unfinished rounds."""
        with self.writing() as session:
            left_open = select(AskRow).where(
                AskRow.target == target, AskRow.pack_id == pack_id, AskRow.state == "intent"
            )
            for ask in session.scalars(left_open.order_by(AskRow.id)).all():
                ask.state, ask.final, ask.settled_at = "in_doubt", True, now
                ask.failure, ask.reason = "crash", "the probe died while waiting"
                chain.link_failure(session, ask)
                tallies.count_failure(session, ask)
            running = select(RoundRow.id).where(
                RoundRow.target == target, RoundRow.pack_id == pack_id, RoundRow.state == "running"
            )
            return list(session.scalars(running.order_by(RoundRow.id)))

    def begin_round(self, target: str, *, pack_id: str, planned: int, now: float, oversize: int = 0) -> int:
        """Open a round; returns its id."""
        row = RoundRow(
            target=target,
            pack_id=pack_id,
            state="running",
            started_at=now,
            planned=planned,
            oversize=oversize,
        )
        with self.writing() as session:
            session.add(row)
        return row.id

    def finish_round(self, round_id: int, **values: Any) -> None:
        """Close a round with its summary (columns of RoundRow)."""
        with self.writing() as session:
            ends = "finished_at" in values  # and not only new statistics of an ended round
            change = update(RoundRow).where(RoundRow.id == round_id)
            if ends:  # once: another process may have closed it for us
                change = change.where(RoundRow.state == "running")
            changed = session.execute(change.values(**values))
            if ends and changed.rowcount == 1:  # type: ignore[attr-defined]
                row = session.get_one(RoundRow, round_id)
                tallies.count_round(
                    session,
                    row.target,
                    row.pack_id,
                    round_id=round_id,
                    state=row.state,
                    scored=row.log_pvalue is not None,
                    seconds=values["finished_at"] - row.started_at,
                )

    # -- asks

    def intend(
        self,
        ask: AskRow,
        *,
        holder: str,
        ttl_s: float,
        cooldown_s: float,
        limits: SendLimits = SendLimits(),  # noqa: B008 - frozen
    ) -> int | Held:
        """Commit the intent to send, and renew the lease with it.

        Returns:
            The ask's id, or the limit that keeps it back.

        Raises:
            LeaseLostError: another process has the target now.
        """
        try:
            with self.writing() as session:
                renewed = session.execute(
                    update(LeaseRow)
                    .where(LeaseRow.target == ask.target, LeaseRow.holder == holder)
                    .values(expires_at=ask.intended_at + ttl_s)
                )
                if renewed.rowcount != 1:  # type: ignore[attr-defined]
                    raise LeaseLostError(f"target {ask.target}: another process has taken over")
                kept_back = held(session, ask, cooldown_s=cooldown_s, limits=limits)
                if kept_back is not None:
                    return kept_back
                session.add(ask)
        except IntegrityError:  # the open-intent index: somebody else is sending it
            return Held("cooldown")
        return ask.id

    def settle_answer(self, ask_id: int, answer: Answer, *, kind: AnswerKind, now: float) -> None:
        """Store an answer, link it into the chain and mark its ask answered: all or nothing."""
        with self.writing() as session:
            row = AnswerRow(
                ask_id=ask_id,
                kind=kind,
                text=_storable(answer.text),
                finish_reason=_storable(answer.finish_reason),
                served_model=_storable(answer.served_model),
                latency_s=answer.latency_s,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
                cost_usd=answer.cost_usd,
            )
            session.add(row)
            ask = session.get_one(AskRow, ask_id)
            if ask.final:  # another process gave it up; that it failed as a trial is no longer true
                tallies.uncount_failure(session, ask)
                ask.final = False
            ask.state, ask.settled_at = "answered", now
            chain.link_answer(session, ask, answer, kind=kind)
            tallies.count_answer(session, ask, row)

    def settle_failure(self, ask_id: int, failure: AskFailure, *, final: bool, now: float) -> None:
        """Mark an ask failed, or in doubt where it may have been answered; ``final``: no attempt follows."""
        self._settle(
            ask_id,
            state="in_doubt" if failure.in_doubt else "failed",
            final=final,
            settled_at=now,
            failure=failure.kind,
            reason=_storable(str(failure)[:500]),
        )

    def settle_abandoned(self, ask_id: int, *, now: float) -> None:
        """Mark an ask in doubt because we stopped waiting for it."""
        self._settle(
            ask_id,
            state="in_doubt",
            final=True,
            settled_at=now,
            failure="stopped",
            reason="the probe was stopped",
        )

    def _settle(self, ask_id: int, **values: Any) -> None:
        with self.writing() as session:
            ask = session.get_one(AskRow, ask_id)
            if ask.state == "intent":
                for name, value in values.items():
                    setattr(ask, name, value)
                chain.link_failure(session, ask)
                tallies.count_failure(session, ask)

    def last_sends(self, target: str, *, pack_id: str, control: bool) -> dict[str, LastSend]:
        """For each trigger that may have been seen by the target: when last, and how often."""
        query = (
            select(AskRow.trigger_id, func.max(AskRow.intended_at), func.count())
            .where(AskRow.target == target, AskRow.pack_id == pack_id, AskRow.control == control)
            .where(may_have_been_seen())
            .group_by(AskRow.trigger_id)
        )
        with self.reading() as session:
            return {trigger: LastSend(at, times) for trigger, at, times in session.execute(query)}

    # -- scores

    def unscored(self, target: str, *, pack_id: str) -> list[Unscored]:
        """Answers without a score, in order of arrival."""
        query = (
            select(AskRow.id, AskRow.round_id, AskRow.trigger_id, AskRow.control, AnswerRow.text)
            .join(AnswerRow, AnswerRow.ask_id == AskRow.id)
            .outerjoin(ScoreRow, ScoreRow.ask_id == AskRow.id)
            .where(AskRow.target == target, AskRow.pack_id == pack_id)
            .where(AnswerRow.kind == "answer", AnswerRow.dropped_at.is_(None), ScoreRow.ask_id.is_(None))
            .order_by(AskRow.id)
        )
        with self.reading() as session:
            return [Unscored(*row) for row in session.execute(query)]

    def add_score(self, row: ScoreRow) -> None:
        """Store a score."""
        with self.writing() as session:
            session.add(row)
            tallies.count_score(session, session.get_one(AskRow, row.ask_id), hit=row.hit)

    # -- transactions

    def reading(self) -> Transaction:
        """A session for reading; errors of the database become StoreError."""
        return Transaction(self._readers, self.engine)

    def writing(self) -> Transaction:
        """A session whose changes are committed at its end, all or nothing; errors become StoreError."""
        return Transaction(self._sessions, self.engine)


def _storable(text: str) -> str:
    """As a database takes it: a lone surrogate is no character, and PostgreSQL has no NUL. The chain keeps
    what was said.
    """
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def open_store(url: str) -> Store:
    """Open the store behind a SQLAlchemy URL; create or migrate it where needed. Raises StoreError."""
    return Store(open_engine(url))
