"""What the pages read: a fixed number of bounded queries a page, whatever the number of targets."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from probes.store import Store
from probes.store.tables import AnswerRow, AskRow, RoundRow, ScoreRow, TargetRow


@dataclass(frozen=True)
class Standing:
    """Where a target stood when its newest round ended; ``log_e`` is natural, None without calibration and of
    a MetaV pack, which has a ``score``, the verifier's log-odds.
    """

    verdict: str
    log_e: float | None
    score: float | None


@dataclass(frozen=True)
class Asked:
    """A settled question, with its answer or its failure; ``text`` is cut, ``length`` is of all of it."""

    trigger_id: str
    control: bool
    at: float
    image_sha256: str
    prompt: str
    failure: str | None
    reason: str | None
    kind: str | None
    text: str | None
    length: int | None
    served_model: str | None
    finish_reason: str | None
    latency_s: float | None
    completion_tokens: int | None
    cost_usd: float | None
    types: int | None
    greens: int | None
    z: float | None
    hit: bool | None
    dropped_at: float | None


def standings(store: Store, *, pack_id: str) -> dict[str, Standing]:
    """Every target that has ended a round: one look-up in an index a target."""
    newest = (
        select(RoundRow.id)
        .where(RoundRow.target == TargetRow.name, RoundRow.pack_id == pack_id)
        .where(RoundRow.finished_at.is_not(None))
        .order_by(RoundRow.id.desc())
        .limit(1)
        .correlate(TargetRow)
        .scalar_subquery()
    )
    query = select(TargetRow.name, RoundRow.verdict, RoundRow.log_e, RoundRow.score)
    query = query.join(RoundRow, RoundRow.id == newest)
    with store.reading() as session:
        return {
            name: Standing(verdict or "none", log_e, score)
            for name, verdict, log_e, score in session.execute(query)
        }


def newest_rounds(
    store: Store, names: Sequence[str], *, pack_id: str, limit: int
) -> dict[str, list[RoundRow]]:
    """The newest ``limit`` rounds of each named target, oldest first."""
    oldest = (
        select(RoundRow.id)
        .where(RoundRow.target == TargetRow.name, RoundRow.pack_id == pack_id)
        .order_by(RoundRow.id.desc())
        .limit(1)
        .offset(limit - 1)
        .correlate(TargetRow)
        .scalar_subquery()
    )
    since = select(TargetRow.name, func.coalesce(oldest, 0).label("id")).where(TargetRow.name.in_(names))
    floor = since.subquery()
    query = (
        select(RoundRow)
        .join(floor, RoundRow.target == floor.c.name)
        .where(RoundRow.pack_id == pack_id, RoundRow.id >= floor.c.id)
        .order_by(RoundRow.id)
    )
    rounds: dict[str, list[RoundRow]] = {name: [] for name in names}
    with store.reading() as session:
        for row in session.scalars(query):
            rounds[row.target].append(row)
    return rounds


def latest_rounds(store: Store, *, pack_id: str, limit: int) -> list[RoundRow]:
    """The newest rounds over all targets of the store, newest first."""
    query = select(RoundRow).where(RoundRow.pack_id == pack_id).order_by(RoundRow.id.desc()).limit(limit)
    with store.reading() as session:
        return list(session.scalars(query))


def round_of(store: Store, target: str, round_id: int, *, pack_id: str) -> RoundRow | None:
    """One round, if it is one of this target's."""
    query = select(RoundRow).where(
        RoundRow.id == round_id, RoundRow.target == target, RoundRow.pack_id == pack_id
    )
    with store.reading() as session:
        return session.scalars(query).one_or_none()


def round_count(store: Store, target: str, *, pack_id: str) -> int:
    """How many rounds of a target there are."""
    query = select(func.count()).where(RoundRow.target == target, RoundRow.pack_id == pack_id)
    with store.reading() as session:
        return session.scalars(query).one()


def round_page(store: Store, target: str, *, pack_id: str, offset: int, limit: int) -> list[RoundRow]:
    """``limit`` rounds of a target, newest first, from ``offset`` on."""
    query = (
        select(RoundRow)
        .where(RoundRow.target == target, RoundRow.pack_id == pack_id)
        .order_by(RoundRow.id.desc())
        .offset(offset)
        .limit(limit)
    )
    with store.reading() as session:
        return list(session.scalars(query))


def round_costs(store: Store, round_ids: Sequence[int]) -> dict[int, float]:
    """Round id -> US dollars, where any answer has a price."""
    query = (
        select(AskRow.round_id, func.sum(AnswerRow.cost_usd))
        .join(AnswerRow, AnswerRow.ask_id == AskRow.id)
        .where(AskRow.round_id.in_(round_ids), AnswerRow.cost_usd.is_not(None))
        .group_by(AskRow.round_id)
    )
    with store.reading() as session:
        return {number: float(cost or 0) for number, cost in session.execute(query)}


def round_failures(store: Store, round_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """Round id -> kind of failure -> sends."""
    query = (
        select(AskRow.round_id, AskRow.failure, func.count())
        .where(AskRow.round_id.in_(round_ids), AskRow.failure.is_not(None))
        .group_by(AskRow.round_id, AskRow.failure)
        .order_by(AskRow.failure)
    )
    found: dict[int, dict[str, int]] = {}
    with store.reading() as session:
        for number, kind, times in session.execute(query):
            found.setdefault(number, {})[str(kind)] = times
    return found


def asked_in(store: Store, round_id: int, *, limit: int, characters: int) -> list[Asked]:
    """The settled questions of a round, newest first; of each text the first ``characters``."""
    query = (
        select(
            AskRow.trigger_id,
            AskRow.control,
            AskRow.intended_at,
            AskRow.image_sha256,
            AskRow.prompt,
            AskRow.failure,
            AskRow.reason,
            AnswerRow.kind,
            func.substr(AnswerRow.text, 1, characters),
            func.length(AnswerRow.text),
            AnswerRow.served_model,
            AnswerRow.finish_reason,
            AnswerRow.latency_s,
            AnswerRow.completion_tokens,
            AnswerRow.cost_usd,
            ScoreRow.types,
            ScoreRow.greens,
            ScoreRow.z,
            ScoreRow.hit,
            AnswerRow.dropped_at,
        )
        .outerjoin(AnswerRow, AnswerRow.ask_id == AskRow.id)
        .outerjoin(ScoreRow, ScoreRow.ask_id == AskRow.id)
        .where(AskRow.round_id == round_id, AskRow.state != "intent")
        .order_by(AskRow.id.desc())
        .limit(limit)
    )
    with store.reading() as session:
        return [Asked(*row) for row in session.execute(query)]
