"""Scores of stored answers: made when they arrive, and made again when the statistics change."""

from probes import standing
from probes.store import Store
from probes.store.tables import ScoreRow
from sif_offline.fingerprint.scoring import PackScorer


def score_pending(store: Store, scorer: PackScorer, target: str) -> int:
    """Score every stored answer that has no score yet, in order of arrival; returns how many."""
    pack_id = scorer.pack.pack_id
    waiting = store.unscored(target, pack_id=pack_id)
    for answer in waiting:
        seen = store.seen_types(target, pack_id=pack_id, trigger_id=answer.trigger_id, control=answer.control)
        score, new_types, hit = standing.score_new(scorer, answer.trigger_id, answer.text, seen=seen)
        store.add_score(
            ScoreRow(
                ask_id=answer.ask_id,
                types=score.types,
                greens=score.greens,
                z=score.z,
                log_pvalue=score.log_pvalue,
                hit=hit,
                new_types=new_types,
            )
        )
    return len(waiting)
