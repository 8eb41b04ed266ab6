"""What a finished round says."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from probes import standing
from probes.store import Store
from probes.store.reading import round_counts, round_texts
from sif_offline.fingerprint.controls import wrong_key_control
from sif_offline.fingerprint.scoring import PackScorer


@dataclass(frozen=True)
class RoundSummary:
    """What a finished round says.

    ``control_z`` (clean photos, same keys) and ``wrong_key_*`` (same answers, nobody's keys: their mean green
    share, and the share of keys that do as well) are the controls beside every verdict.

    p and z are against "independent text", ``log10_e`` against "unrelated model" (None while the pack is
    not calibrated); ``verdict`` is the target's since its watch began. ``duration_s`` is in seconds. ``held``
    names the limit that ended the round before its plan was done, None where none did.
    """

    target: str
    pack: str
    round_id: int
    state: str
    planned: int
    answered: int
    scored: int
    failures: dict[str, int]
    refusals: int
    z: float | None
    threshold_z: float
    pvalue: float | None
    control_z: float | None
    wrong_key_share: float | None
    wrong_key_pvalue: float | None
    log10_e: float | None
    log10_e_independent: float
    verdict: str
    duration_s: float
    last_failure: str | None
    held: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def close_round(
    store: Store,
    scorer: PackScorer,
    round_id: int,
    *,
    target: str,
    evidence: standing.Evidence,
    now: float,
    planned: int | None,
    began: float | None = None,
    held: str | None = None,
) -> RoundSummary:
    """Write the statistics of a round whose answers are scored. Raises StoreError.

    ``evidence`` is the target's after this round, ``now`` and ``began`` (None where another process began it)
    are Unix seconds. ``planned`` is how many questions it meant to ask, None where a crash cut it off;
    ``held`` the limit that ended it, None where none did.
    """
    pack = scorer.pack
    counts = round_counts(store, round_id)
    combined = standing.combine_counts(pack, counts.triggers)
    control = standing.combine_counts(pack, counts.controls)
    texts = round_texts(store, round_id)
    wrong = None
    if combined is not None and texts:
        wrong = wrong_key_control(scorer, texts, greens=combined.greens, keys=standing.WRONG_KEYS)
    state = "partial"
    if planned is not None and counts.answered == planned:
        state = "complete" if planned else "idle"
    statistics = {
        "z": combined.stouffer_z if combined else None,
        "control_z": control.stouffer_z if control else None,
        "threshold_z": standing.threshold_z(pack, types=combined.types if combined else 0),
        "wrong_key_share": wrong.mean_share if wrong else None,
        "wrong_key_pvalue": wrong.pvalue if wrong else None,
        "verdict": evidence.verdict,
        "answered": counts.answered,
        "scored": len(counts.triggers),
        "held": held,
    }
    store.finish_round(
        round_id,
        state=state,
        # the hours until somebody started us again are no part of a round that a crash cut off
        finished_at=now if planned is not None else counts.last_answer_at or counts.started_at,
        log_pvalue=combined.log_pvalue if combined else None,
        log_e=evidence.log_e,
        log_e_max=evidence.log_e_max,
        log_e_independent=evidence.log_e_independent,
        **statistics,
    )
    return RoundSummary(
        target=target,
        pack=pack.pack_id,
        round_id=round_id,
        state=state,
        planned=planned or 0,
        failures=counts.failures,
        refusals=counts.refusals,
        pvalue=combined.pvalue if combined else None,
        log10_e=None if evidence.log_e is None else evidence.log_e / math.log(10),
        log10_e_independent=evidence.log_e_independent / math.log(10),
        duration_s=now - began if began is not None else 0.0,
        last_failure=counts.last_failure,
        **statistics,  # type: ignore[arg-type]
    )
