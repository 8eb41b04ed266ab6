"""What the metrics read: totals of all targets at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, case, func, select

from probes.store.store import Store
from probes.store.tables import AnswerRow, AskRow, RoundRow, ScoreRow, TargetRow


@dataclass(frozen=True)
class MonitorTotals:
    """Everything that the metrics say of one target; see ``probes.metrics``. Logs are natural."""

    monitor: str
    pack: str
    interval_s: float
    alpha: float
    z: float | None
    threshold_z: float | None
    log_e: float | None
    verdict: str
    last_completion: float | None
    last_success: float | None
    trials: dict[str, int]
    errors: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    rounds: int
    duration_sum_s: float
    duration_counts: list[int]


def monitor_totals(
    store: Store, monitors: Sequence[str], *, pack_id: str, buckets: Sequence[float]
) -> list[MonitorTotals]:
    """The totals of the named targets, in a fixed number of queries whatever their number.

    ``buckets``: upper bounds (seconds) of the cumulative counts of round durations.
    """
    ours = (AskRow.target.in_(monitors), AskRow.pack_id == pack_id)
    rounds_of = (RoundRow.target.in_(monitors), RoundRow.pack_id == pack_id)
    duration = RoundRow.finished_at - RoundRow.started_at
    trial_scores = (
        select(AskRow.target, ScoreRow.hit, func.count())
        .join(ScoreRow, ScoreRow.ask_id == AskRow.id)
        .where(*ours, AskRow.control.is_(False))
        .group_by(AskRow.target, ScoreRow.hit)
    )
    refusals = (
        select(AskRow.target, func.count())
        .join(AnswerRow, AnswerRow.ask_id == AskRow.id)
        .where(*ours, AskRow.control.is_(False), AnswerRow.kind != "answer")
        .group_by(AskRow.target)
    )
    lost = (
        select(AskRow.target, func.count())
        .where(*ours, AskRow.control.is_(False), AskRow.final.is_(True))
        .group_by(AskRow.target)
    )
    errors = (
        select(AskRow.target, AskRow.failure, func.count())
        .where(*ours, AskRow.failure.is_not(None))
        .group_by(AskRow.target, AskRow.failure)
    )
    spent = (
        select(
            AskRow.target,
            func.coalesce(func.sum(AnswerRow.prompt_tokens), 0),
            func.coalesce(func.sum(AnswerRow.completion_tokens), 0),
            func.coalesce(func.sum(AnswerRow.cost_usd), 0.0),
        )
        .join(AnswerRow, AnswerRow.ask_id == AskRow.id)
        .where(*ours)
        .group_by(AskRow.target)
    )
    durations = (
        select(
            RoundRow.target,
            func.count(),
            func.coalesce(func.sum(duration), 0.0),
            *(func.coalesce(func.sum(case((duration <= bound, 1), else_=0)), 0) for bound in buckets),
        )
        .where(*rounds_of, RoundRow.finished_at.is_not(None))
        .group_by(RoundRow.target)
    )
    ended = _newest(RoundRow.finished_at.is_not(None), rounds_of)
    good = _newest(RoundRow.state.in_(("complete", "idle")), rounds_of)
    scored = _newest(RoundRow.z.is_not(None), rounds_of)
    with store.reading() as session:
        targets = session.scalars(select(TargetRow).where(TargetRow.name.in_(monitors)))
        known = {row.name: (row.interval_s, row.alpha) for row in targets}
        trials: dict[str, dict[str, int]] = {name: {} for name in known}
        for name, hit, times in session.execute(trial_scores):
            trials[name]["hit" if hit else "miss"] = times
        for name, times in session.execute(refusals):
            trials[name]["refusal"] = times
        for name, times in session.execute(lost):
            trials[name]["error"] = times
        failed: dict[str, dict[str, int]] = {name: {} for name in known}
        for name, kind, times in session.execute(errors):
            failed[name][str(kind)] = times
        spending = {row[0]: row[1:] for row in session.execute(spent)}
        lasting = {row[0]: row[1:] for row in session.execute(durations)}
        last, success, with_z = (
            {row.target: row for row in session.scalars(query)} for query in (ended, good, scored)
        )
        totals = []
        for name in (name for name in monitors if name in known):
            interval_s, alpha = known[name]
            prompt_tokens, completion_tokens, cost = spending.get(name, (0, 0, 0.0))
            rounds, duration_sum, *counts = lasting.get(name, (0, 0.0, *(0 for _ in buckets)))
            z_row, end_row, good_row = with_z.get(name), last.get(name), success.get(name)
            totals.append(
                MonitorTotals(
                    monitor=name,
                    pack=pack_id,
                    interval_s=interval_s,
                    alpha=alpha,
                    z=z_row.z if z_row else None,
                    threshold_z=z_row.threshold_z if z_row else None,
                    log_e=end_row.log_e if end_row else None,
                    verdict=(end_row.verdict if end_row else None) or "none",
                    last_completion=end_row.finished_at if end_row else None,
                    last_success=good_row.finished_at if good_row else None,
                    trials=trials[name],
                    errors=failed[name],
                    prompt_tokens=prompt_tokens or 0,
                    completion_tokens=completion_tokens or 0,
                    cost_usd=float(cost or 0),
                    rounds=int(rounds),
                    duration_sum_s=float(duration_sum),
                    duration_counts=[int(count) for count in counts],
                )
            )
        return totals


def _newest(condition: ColumnElement[bool], of: tuple[ColumnElement[bool], ...]) -> Select[RoundRow]:
    """The newest round of each target that meets the condition."""
    newest = select(func.max(RoundRow.id)).where(*of, condition).group_by(RoundRow.target)
    return select(RoundRow).where(RoundRow.id.in_(newest))
