"""Scores of stored answers, and where their target stands after them.

Scores are made when answers arrive, and made again when the statistics change.
"""

from dataclasses import dataclass
from typing import NamedTuple

from probes import standing
from probes.store import Store
from probes.store.reading import scored_answers
from probes.store.standings import Standing, keep_standing, kept_standing
from probes.store.tables import ScoreRow
from sif_offline.fingerprint.evidence.commitment import Policy
from sif_offline.fingerprint.scoring import PackScorer


class Scored(NamedTuple):
    """How many answers were scored, and what all scored answers of the target amount to."""

    answers: int
    evidence: standing.Evidence


def score_pending(store: Store, scorer: PackScorer, target: str, *, policy: Policy, holder: str) -> Scored:
    """Score every stored answer that has no score yet, in the order in which they were asked for.

    The e-processes go on from where they stood after the last round, and are replayed where that is not known
    or an answer came late; either way they are what a replay of all answers gives. ``holder`` has the
    target's lease.
    """
    pack_id = scorer.pack.pack_id
    waiting = store.unscored(target, pack_id=pack_id)
    first = next((answer.ask_id for answer in waiting if not answer.control), None)
    account = _resume(store, scorer, target, policy=policy)
    if account is None or (first is not None and first <= account.last_ask):
        account = _replay(store, scorer, target, policy=policy)
    for answer in waiting:
        seen = account.ledger.seen(answer.trigger_id)
        score, new_types, hit = standing.score_new(scorer, answer.trigger_id, answer.text, seen=seen)
        store.add_score(
            ScoreRow(
                ask_id=answer.ask_id,
                types=score.types,
                greens=score.greens,
                z=score.z,
                log_pvalue=score.log_pvalue,
                hit=hit,
                new_types=[] if answer.control else new_types,
            )
        )
        if not answer.control:
            account.add(
                answer.ask_id, answer.trigger_id, [(token, bool(green)) for token, green in new_types]
            )
    if not account.in_order:
        account = _replay(store, scorer, target, policy=policy)
    if not account.kept and not keep_standing(
        store,
        Standing(account.ledger.state(), account.last_ask, account.scored),
        target,
        pack_id=pack_id,
        holder=holder,
    ):
        account = _replay(store, scorer, target, policy=policy)  # another process has scored meanwhile
    return Scored(len(waiting), account.ledger.evidence)


@dataclass
class _Account:
    """A ledger and what went into it; ``kept``: the store has it so."""

    ledger: standing.Ledger
    last_ask: int = 0
    scored: int = 0
    in_order: bool = True
    kept: bool = False

    def add(self, ask_id: int, trigger_id: str, new_types: standing.NewTypes) -> None:
        self.ledger.add(trigger_id, new_types)
        self.in_order &= not self.scored or ask_id > self.last_ask
        self.last_ask, self.scored, self.kept = ask_id, self.scored + 1, False


def _replay(store: Store, scorer: PackScorer, target: str, *, policy: Policy) -> _Account:
    account = _Account(standing.Ledger(scorer.pack, policy=policy))
    for answer in scored_answers(store, target, pack_id=scorer.pack.pack_id):
        account.add(*answer)
    return account


def _resume(store: Store, scorer: PackScorer, target: str, *, policy: Policy) -> _Account | None:
    found = kept_standing(store, target, pack_id=scorer.pack.pack_id)
    if found is None:
        return None
    stood, newer = found
    try:
        ledger = standing.Ledger.resumed(scorer.pack, policy=policy, state=stood.state)
    except ValueError:
        return None
    account = _Account(ledger, stood.last_ask, stood.scored, kept=True)
    for answer in newer:
        account.add(*answer)
    return account
