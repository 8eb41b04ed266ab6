"""The verdict over an endpoint's answers, as a pure function of texts, keys and a policy fixed beforehand.

The same function speaks for the owner who makes a bundle and for the judge who checks it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sif_offline.fingerprint.combining import CombinedScore, combine
from sif_offline.fingerprint.controls import WrongKeys, wrong_key_control
from sif_offline.fingerprint.evidence.commitment import Policy
from sif_offline.fingerprint.evidence.transcript import Exchange
from sif_offline.fingerprint.pack_scorer import TextScorer
from sif_offline.fingerprint.response import ResponseScore
from sif_offline.fingerprint.sequential import EProcess, VerdictState, anytime_pvalue, verdict_state


class ScoredExchange(NamedTuple):
    """An answer with its own score, and how many of its types the e-process had not seen."""

    exchange: Exchange
    score: ResponseScore
    new_types: int


@dataclass(frozen=True)
class Judgement:
    """Everything the answers say.

    Attributes:
        asked: exchanges in all.
        scored: the answers, triggers and clean photos, in order of arrival.
        independent: all trigger answers against "independent text", repeats pooled; None without any.
        unrelated: the same against "unrelated model"; None where no transfer was committed.
        clean: the answers to clean photos under the same keys against "independent text".
        wrong_keys: the wrong-key control; None without a trigger answer.
        log_e_independent, max_log_e_independent: e-process against "independent text", natural logs.
        log_e_unrelated, max_log_e_unrelated: against "unrelated model"; None where no transfer was committed.
        verdict: by the largest E so far; "confirmed" by the unrelated-model process alone.
    """

    asked: int
    scored: tuple[ScoredExchange, ...]
    independent: CombinedScore | None
    unrelated: CombinedScore | None
    clean: CombinedScore | None
    wrong_keys: WrongKeys | None
    log_e_independent: float
    max_log_e_independent: float
    log_e_unrelated: float | None
    max_log_e_unrelated: float | None
    verdict: VerdictState

    def numbers(self) -> dict[str, Any]:
        """The figures that a bundle signs and a verifier recomputes, as JSON values."""
        triggers = [row for row in self.scored if not row.exchange.record.control]
        return {
            "asked": self.asked,
            "trigger_answers": len(triggers),
            "clean_answers": len(self.scored) - len(triggers),
            "answers": [
                {
                    "index": row.exchange.record.index,
                    "types": row.score.types,
                    "greens": row.score.greens,
                    "new_types": row.new_types,
                    "z": row.score.z,
                    "log_pvalue": _finite(row.score.log_pvalue),
                }
                for row in self.scored
            ],
            "independent_text": _combined(self.independent),
            "unrelated_model": _combined(self.unrelated),
            "clean_control": _combined(self.clean),
            "wrong_key_control": None if self.wrong_keys is None else self.wrong_keys._asdict(),
            "e_process": {
                "independent_text": _process(self.log_e_independent, self.max_log_e_independent),
                "unrelated_model": _process(self.log_e_unrelated, self.max_log_e_unrelated),
            },
            "verdict": self.verdict,
        }


def judge(exchanges: Sequence[Exchange], *, scorer: TextScorer, policy: Policy, green_size: int) -> Judgement:
    """Score every answer and combine.

    Args:
        exchanges: in order of arrival; only answers with their text are scored.
        scorer: with the keys of every trigger that was asked.
        policy: the test, as it was committed.
        green_size: N_g.
    """
    sizes = {"vocab_size": scorer.vocab_size, "green_size": green_size, "grid_points": policy.grid_points}
    independent = EProcess(**sizes)
    unrelated = None if policy.transfer is None else EProcess(**sizes, transfer=policy.transfer)
    texts: dict[bool, dict[str, list[str]]] = {False: {}, True: {}}
    scored = []
    for item in exchanges:
        record, text = item.record, item.text
        if text is None:
            continue
        texts[record.control].setdefault(record.trigger_id, []).append(text)
        new_types = 0
        if not record.control:
            tokens = scorer.types(record.trigger_id, text)
            new_types = independent.update(record.trigger_id, tokens)
            if unrelated is not None:
                unrelated.update(record.trigger_id, tokens)
        scored.append(ScoredExchange(item, scorer.score(record.trigger_id, text), new_types))
    pooled = {
        control: [scorer.score(trigger_id, repeats) for trigger_id, repeats in by_trigger.items()]
        for control, by_trigger in texts.items()
    }
    triggers, clean = pooled[False], pooled[True]
    grown = independent if unrelated is None else unrelated
    verdict = verdict_state(grown.max_log_e, alpha=policy.alpha)
    if unrelated is None and verdict == "confirmed":
        verdict = "suspicious"  # without null models nothing is known about unrelated models
    return Judgement(
        asked=len(exchanges),
        scored=tuple(scored),
        independent=combine(triggers) if triggers else None,
        unrelated=combine(triggers, transfer=policy.transfer)
        if triggers and policy.transfer is not None
        else None,
        clean=combine(clean) if clean else None,
        wrong_keys=wrong_key_control(
            scorer, texts[False], greens=sum(score.greens for score in triggers), keys=policy.wrong_keys
        )
        if triggers
        else None,
        log_e_independent=independent.log_e,
        max_log_e_independent=independent.max_log_e,
        log_e_unrelated=None if unrelated is None else unrelated.log_e,
        max_log_e_unrelated=None if unrelated is None else unrelated.max_log_e,
        verdict=verdict,
    )


def _combined(score: CombinedScore | None) -> dict[str, Any] | None:
    if score is None:
        return None
    return {
        "gamma0": score.gamma0,
        "triggers": score.answers,
        "types": score.types,
        "greens": score.greens,
        "pvalue": score.pvalue,
        "log_pvalue": _finite(score.log_pvalue),
        "stouffer_z": score.stouffer_z,
        "fisher_pvalue": score.fisher_pvalue,
    }


def _process(log_e: float | None, max_log_e: float | None) -> dict[str, float] | None:
    if log_e is None or max_log_e is None:
        return None
    return {
        "log10_e": log_e / math.log(10),
        "max_log10_e": max_log_e / math.log(10),
        "anytime_pvalue": anytime_pvalue(max_log_e),
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity: the log of an impossible p is null."""
    return value if math.isfinite(value) else None
