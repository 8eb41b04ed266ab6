"""What the metrics and the pages read: totals of all targets at once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, cast, select

from probes.store.store import Store
from probes.store.tables import RoundRow, TallyRow, TargetRow
from probes.store.tallies import DURATION_BOUNDS_S


@dataclass(frozen=True)
class MonitorTotals:
    """Everything that the metrics say of one target; see ``probes.metrics``. Logs are natural. ``score`` and
    ``log_pvalue`` are those of the last scored round, the score of MetaV packs alone.

    ``duration_counts`` are cumulative, one a bound of ``DURATION_BOUNDS_S``.
    """

    monitor: str
    kind: str
    pack: str
    interval_s: float
    alpha: float
    z: float | None
    threshold_z: float | None
    score: float | None
    log_pvalue: float | None
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


def monitor_totals(store: Store, monitors: Sequence[str], *, pack_id: str) -> list[MonitorTotals]:
    """The totals of the named targets, in three queries that do not grow with the history."""
    ours = (TallyRow.target.in_(monitors), TallyRow.pack_id == pack_id)
    newest = (
        select(TallyRow.target, TallyRow.name, RoundRow)
        .join(RoundRow, RoundRow.id == cast(TallyRow.value, BigInteger))
        .where(*ours, TallyRow.name.in_(("last/ended", "last/good", "last/scored")))
    )
    with store.reading() as session:
        known = {
            row.name: row for row in session.scalars(select(TargetRow).where(TargetRow.name.in_(monitors)))
        }
        tallies: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for name, of, value in session.execute(
            select(TallyRow.target, TallyRow.name, TallyRow.value).where(*ours)
        ):
            tallies[name][of] = value
        rounds = {(name, of): row for name, of, row in session.execute(newest)}
    return [
        _totals(
            known[name],
            pack_id=pack_id,
            tallies=tallies[name],
            ended=rounds.get((name, "last/ended")),
            good=rounds.get((name, "last/good")),
            scored=rounds.get((name, "last/scored")),
        )
        for name in monitors
        if name in known
    ]


def _totals(
    target: TargetRow,
    *,
    pack_id: str,
    tallies: dict[str, float],
    ended: RoundRow | None,
    good: RoundRow | None,
    scored: RoundRow | None,
) -> MonitorTotals:
    def under(prefix: str) -> dict[str, int]:
        return {
            name.removeprefix(prefix): int(value)
            for name, value in tallies.items()
            if name.startswith(prefix)
        }

    tokens = under("tokens/")
    return MonitorTotals(
        monitor=target.name,
        kind=target.kind,
        pack=pack_id,
        interval_s=target.interval_s,
        alpha=target.alpha,
        z=scored.z if scored else None,
        threshold_z=scored.threshold_z if scored else None,
        score=scored.score if scored else None,
        log_pvalue=scored.log_pvalue if scored else None,
        log_e=ended.log_e if ended else None,
        verdict=(ended.verdict if ended else None) or "none",
        last_completion=ended.finished_at if ended else None,
        last_success=good.finished_at if good else None,
        trials=under("outcome/"),
        errors=under("error/"),
        prompt_tokens=tokens.get("prompt", 0),
        completion_tokens=tokens.get("completion", 0),
        cost_usd=tallies.get("cost", 0.0),
        rounds=int(tallies.get("rounds", 0)),
        duration_sum_s=tallies.get("duration", 0.0),
        duration_counts=[int(tallies.get(f"duration/{bound:g}", 0)) for bound in DURATION_BOUNDS_S],
    )
