"""What keeps a question from being sent: asked in the transaction that would commit its intent, so that
several processes together keep to every limit."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.orm import Session

from probes.store.tables import AnswerRow, AskRow, BurnRow, HoldRow

EVERY = "*"
"""As a target: all of them."""

DAY_S, MINUTE_S = 86_400.0, 60.0
_RATE_LOCK = 0x5349465F  # any number: PostgreSQL's advisory lock of the rate over all targets

HeldBy = Literal["cooldown", "burned", "lifetime", "paused", "rate", "daily_requests", "daily_usd"]
ENDS_THE_ROUND: frozenset[HeldBy] = frozenset({"paused", "rate", "daily_requests", "daily_usd"})
"""Limits that hold for every further question of the round too."""


UNREAD = ("connection", "rate_limited", "auth", "misconfigured")
"""Failures before anybody read the question."""


@dataclass(frozen=True)
class SendLimits:
    """Bounds on what is sent; None is no bound. Days are UTC, amounts US dollars.

    Args:
        lifetime: sends of one picture to one target.
        per_minute: questions to the target.
        all_per_minute: questions to all targets of the store together.
        daily_requests: questions to the target.
        daily_usd: what the target's answers of a day may cost.
        usd_per_request: what a question counts as until its answer says what it cost.
    """

    lifetime: int | None = None
    per_minute: float | None = None
    all_per_minute: float | None = None
    daily_requests: int | None = None
    daily_usd: float | None = None
    usd_per_request: float = 0.0


@dataclass(frozen=True)
class Held:
    """A question that may not be sent now. ``wait_s``: when a rate lets it through, None for the others."""

    by: HeldBy
    wait_s: float | None = None


def held(session: Session, ask: AskRow, *, cooldown_s: float, limits: SendLimits) -> Held | None:
    """The first limit that keeps this ask back, None where it may be sent."""
    if session.scalars(select(HoldRow.target).where(HoldRow.target.in_((ask.target, EVERY)))).first():
        return Held("paused")
    burned = select(BurnRow.trigger_id).where(
        BurnRow.pack_id == ask.pack_id,
        BurnRow.trigger_id == ask.trigger_id,
        BurnRow.target.in_((ask.target, EVERY)),
    )
    if not ask.control and session.scalars(burned).first():
        return Held("burned")
    # a send that lies in the future, because the clock was set back, counts as one just now
    this_picture = (
        AskRow.target == ask.target,
        AskRow.pack_id == ask.pack_id,
        AskRow.trigger_id == ask.trigger_id,
        AskRow.control == ask.control,
        may_have_been_seen(),
    )
    seen = select(func.count(), func.max(AskRow.intended_at)).where(*this_picture)
    sends, last = session.execute(seen).one()
    if last is not None and last > ask.intended_at - cooldown_s:
        return Held("cooldown")
    if limits.lifetime is not None and sends >= limits.lifetime:
        return Held("lifetime")
    return _over_budget(session, ask, limits) or _over_rate(session, ask, limits)


def may_have_been_seen() -> ColumnElement[bool]:
    """Asks whose picture the target may have read: a server that turns a question down has read it first."""
    return or_(AskRow.state != "failed", AskRow.failure.not_in(UNREAD))


def _over_budget(session: Session, ask: AskRow, limits: SendLimits) -> Held | None:
    if limits.daily_requests is None and limits.daily_usd is None:
        return None
    midnight = ask.intended_at // DAY_S * DAY_S
    today = (
        AskRow.target == ask.target,
        AskRow.intended_at >= midnight,
        AskRow.intended_at < midnight + DAY_S,
    )
    if limits.daily_requests is not None:
        sent = session.scalar(select(func.count()).where(*today)) or 0
        if sent >= limits.daily_requests:
            return Held("daily_requests")
    if limits.daily_usd is not None:
        # litellm counts by what the endpoint says of itself: never more than a question costs at most
        most = limits.usd_per_request
        each = case((AnswerRow.cost_usd < most, AnswerRow.cost_usd), else_=most)
        total = select(func.sum(each)).select_from(AskRow).outerjoin(AnswerRow, AnswerRow.ask_id == AskRow.id)
        # a failed ask was certainly not answered, and nobody is billed for it
        spent = session.scalar(total.where(*today, AskRow.state != "failed")) or 0.0
        if spent + limits.usd_per_request > limits.daily_usd:
            return Held("daily_usd")
    return None


def _over_rate(session: Session, ask: AskRow, limits: SendLimits) -> Held | None:
    waits = []
    if limits.per_minute is not None:
        waits.append(_rate_wait(session, ask.intended_at, limits.per_minute, target=ask.target))
    if limits.all_per_minute is not None:
        if session.get_bind().dialect.name == "postgresql":  # SQLite's writers wait for each other anyway
            session.execute(select(func.pg_advisory_xact_lock(_RATE_LOCK)))
        waits.append(_rate_wait(session, ask.intended_at, limits.all_per_minute, target=None))
    wait_s = max(waits, default=0.0)
    return Held("rate", wait_s) if wait_s > 0 else None


def _rate_wait(session: Session, now: float, per_minute: float, *, target: str | None) -> float:
    """Seconds until a further send keeps to ``per_minute``, 0 where it does now.

    At most ``floor(per_minute)`` sends lie in any window of a minute; a rate below one a minute is one send
    in a longer window.
    """
    count = max(1, int(per_minute))
    window_s = MINUTE_S * count / per_minute
    sends = select(AskRow.intended_at).where(
        AskRow.intended_at > now - window_s, AskRow.intended_at <= now + window_s
    )
    if target is not None:
        sends = sends.where(AskRow.target == target)
    oldest = session.scalars(sends.order_by(AskRow.intended_at.desc()).offset(count - 1).limit(1)).first()
    # another process may have taken its time a moment later and its lock a moment earlier
    return 0.0 if oldest is None else min(oldest, now) + window_s - now
