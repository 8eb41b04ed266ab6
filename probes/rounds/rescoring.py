"""New statistics on old answers."""

from dataclasses import dataclass

from sqlalchemy import delete, select

from probes import standing
from probes.rounds.scoring import score_pending
from probes.rounds.sif import rewrite_round
from probes.store import Store, StoreError
from probes.store.lease import new_holder
from probes.store.reading import answers_by_round
from probes.store.tables import AnswerRow, AskRow, RoundRow, ScoreRow, StandingRow
from probes.store.tallies import recount_hits
from sif_offline.fingerprint.evidence.commitment import Policy
from sif_offline.fingerprint.scoring import PackScorer

LEASE_S = 6 * 3600.0


@dataclass(frozen=True)
class Rescored:
    """What came of it: answers scored again, rounds written again, answers whose text is no longer held and
    that keep their old score; the verdict before and after.
    """

    target: str
    answers: int
    rounds: int
    kept: int
    before: str
    after: str


def rescore(store: Store, scorer: PackScorer, target: str, *, policy: Policy, now: float) -> Rescored:
    """Score every held answer of a target again and write its rounds again, in order.

    All or nothing as far as scores go: a crash leaves answers without a score, which the next round makes.

    Raises:
        StoreError: a round of the target is running, or the database failed.
    """
    pack_id, holder = scorer.pack.pack_id, new_holder()
    if not store.take_lease(target, holder=holder, now=now, ttl_s=LEASE_S):
        raise StoreError(f"target {target}: a round is running; try again when it has ended")
    try:
        of_target = (AskRow.target == target, AskRow.pack_id == pack_id)
        held = select(AnswerRow.ask_id).join(AskRow, AskRow.id == AnswerRow.ask_id).where(*of_target)
        with store.writing() as session:
            before = session.scalars(
                select(RoundRow.verdict)
                .where(RoundRow.target == target, RoundRow.pack_id == pack_id, RoundRow.verdict.is_not(None))
                .order_by(RoundRow.id.desc())
            ).first()
            kept = len(session.scalars(held.where(AnswerRow.dropped_at.is_not(None))).all())
            session.execute(
                delete(ScoreRow).where(ScoreRow.ask_id.in_(held.where(AnswerRow.dropped_at.is_(None))))
            )
            recount_hits(session, target, pack_id=pack_id)
            # or a crash after the last new score would leave it to be gone on from: its count fits again
            session.execute(
                delete(StandingRow).where(StandingRow.target == target, StandingRow.pack_id == pack_id)
            )
        answers, _ = score_pending(store, scorer, target, policy=policy, holder=holder)
        ledger = standing.Ledger(scorer.pack, policy=policy)
        rounds = 0
        for round_id, scored in answers_by_round(store, target, pack_id=pack_id):
            for trigger_id, new_types in scored:
                ledger.add(trigger_id, new_types)
            rewrite_round(store, scorer, round_id, evidence=ledger.evidence)
            rounds += 1
        after = ledger.evidence.verdict
        return Rescored(target, answers, rounds, kept, before or "none", after)
    finally:
        store.give_back_lease(target, holder=holder)
