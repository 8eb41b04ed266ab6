"""What a finished round says."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from probes import standing
from probes.store import Store
from probes.store.reading import RoundCounts, round_counts, round_texts
from sif_offline.fingerprint.controls import wrong_key_control
from sif_offline.fingerprint.scoring import PackScorer


@dataclass(frozen=True)
class RoundSummary:
    """What a finished round says.

    ``control_z`` (clean photos, same keys) and ``wrong_key_*`` (same answers, nobody's keys: their mean green
    share, and the share of keys that do as well) are the controls beside every verdict.

    p and z are against "independent text", ``log10_e`` against "unrelated model" (None while the pack is
    not calibrated); ``verdict`` is the target's since its watch began. ``duration_s`` is in seconds. ``held``
    names the limit that ended the round before its plan was done, None where none did; ``oversize`` counts
    the triggers that were left out because the target does not take pictures of their size.
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
    oversize: int = 0

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
    counts = round_counts(store, round_id)
    statistics = _statistics(store, scorer, counts, round_id, evidence=evidence)
    state = "partial"
    if planned is not None and counts.answered == planned:
        state = "complete" if planned else "idle"
    store.finish_round(
        round_id,
        state=state,
        # the hours until somebody started us again are no part of a round that a crash cut off
        finished_at=now if planned is not None else counts.last_answer_at or counts.started_at,
        answered=counts.answered,
        held=held,
        **statistics,
    )
    log_pvalue, log_e = statistics["log_pvalue"], evidence.log_e
    return RoundSummary(
        target=target,
        pack=scorer.pack.pack_id,
        round_id=round_id,
        state=state,
        planned=planned or 0,
        answered=counts.answered,
        scored=statistics["scored"],
        failures=counts.failures,
        refusals=counts.refusals,
        z=statistics["z"],
        threshold_z=statistics["threshold_z"],
        pvalue=None if log_pvalue is None else math.exp(log_pvalue),
        control_z=statistics["control_z"],
        wrong_key_share=statistics["wrong_key_share"],
        wrong_key_pvalue=statistics["wrong_key_pvalue"],
        log10_e=None if log_e is None else log_e / math.log(10),
        log10_e_independent=evidence.log_e_independent / math.log(10),
        verdict=evidence.verdict,
        duration_s=now - began if began is not None else 0.0,
        last_failure=counts.last_failure,
        held=held,
        oversize=counts.oversize,
    )


def rewrite_round(store: Store, scorer: PackScorer, round_id: int, *, evidence: standing.Evidence) -> None:
    """Write the statistics of an ended round again, from its scores as they are now.

    The wrong-key control stays as it was where texts of the round are no longer held.
    """
    counts = round_counts(store, round_id)
    statistics = _statistics(store, scorer, counts, round_id, evidence=evidence)
    if statistics["wrong_key_share"] is None:
        del statistics["wrong_key_share"], statistics["wrong_key_pvalue"]
    store.finish_round(round_id, **statistics)


def _statistics(
    store: Store, scorer: PackScorer, counts: RoundCounts, round_id: int, *, evidence: standing.Evidence
) -> dict[str, Any]:
    """The columns of a round that follow from its scores and from the target's evidence after it."""
    pack = scorer.pack
    combined = standing.combine_counts(pack, counts.triggers)
    control = standing.combine_counts(pack, counts.controls)
    texts = round_texts(store, round_id)
    wrong = None
    held = all(text for answers in texts.values() for text in answers)
    if combined is not None and texts and held:
        wrong = wrong_key_control(scorer, texts, greens=combined.greens, keys=standing.WRONG_KEYS)
    return {
        "scored": len(counts.triggers),
        "z": combined.stouffer_z if combined else None,
        "log_pvalue": combined.log_pvalue if combined else None,
        "control_z": control.stouffer_z if control else None,
        "threshold_z": standing.threshold_z(pack, types=combined.types if combined else 0),
        "wrong_key_share": wrong.mean_share if wrong else None,
        "wrong_key_pvalue": wrong.pvalue if wrong else None,
        "log_e": evidence.log_e,
        "log_e_max": evidence.log_e_max,
        "log_e_independent": evidence.log_e_independent,
        "verdict": evidence.verdict,
    }
