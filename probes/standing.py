"""Where a target stands: the statistics of its stored answers, made again from them at any time.

Two null hypotheses are kept apart. Against "independent text" the round's z, its exact p and one e-process
say that answers depend on the key. Against "unrelated model" (green rate up to gamma + the calibrated
transfer) a second e-process grows, and only that one may ever read "confirmed".
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.evidence.commitment import Policy, commitment_of
from sif_offline.fingerprint.pack import FingerprintPack
from sif_offline.fingerprint.scoring import CombinedScore, PackScorer, ResponseScore, combine
from sif_offline.fingerprint.sequential import CONFIRMED, EProcess, VerdictState, ebh, verdict_state

ROUND_ALPHA = 1e-4
"""Level of the z threshold of one round; the warning that z carries is about one round, not about months."""

UNCALIBRATED_HIT = 0.05
"""A trigger counts as a hit at this exact p where the pack has no calibration row for it."""

WRONG_KEYS = 99
"""Sets of keys in the wrong-key control of a round."""

FALSE_DISCOVERY_RATE = 0.05
"""Bound on the expected share of innocents among the targets that stand out together (e-BH)."""

NewTypes = Sequence[tuple[int, bool]]


@dataclass(frozen=True)
class Evidence:
    """The two e-processes of a target (natural logs) and what they amount to.

    ``log_e`` and ``log_e_max`` are None while the pack has no calibration: without null models nothing is
    known about unrelated models, and the verdict stays below "confirmed".
    """

    log_e: float | None
    log_e_max: float | None
    log_e_independent: float
    verdict: VerdictState


class PolicyError(SifError):
    """A configuration that asks for another test than the pack was committed with."""


def policy_of(pack: FingerprintPack, *, alpha: float | None) -> Policy:
    """The test of a watch: the committed one, or else what the pack's calibration supports.

    Args:
        pack: the pack asked with.
        alpha: as configured; None takes the committed level, or the default.

    Raises:
        PolicyError: the pack was committed with another alpha.
        EvidenceError: its commitment does not hold.
    """
    commitment = commitment_of(pack)
    if commitment is None:
        return Policy.of(pack, alpha=CONFIRMED if alpha is None else alpha)
    _, head = commitment.open()
    if alpha is not None and alpha != head.policy.alpha:
        raise PolicyError(
            f"alpha {alpha:g}: pack {pack.pack_id} was committed with {head.policy.alpha:g}; leave alpha out"
        )
    return head.policy


class Ledger:
    """The e-processes of one target, fed with its scored answers in order of arrival.

    Args:
        pack: the pack asked with.
        policy: the test; see :func:`policy_of`.
    """

    def __init__(self, pack: FingerprintPack, *, policy: Policy) -> None:
        sizes = {
            "vocab_size": pack.vocab_size,
            "green_size": pack.green_size,
            "grid_points": policy.grid_points,
        }
        self._alpha = policy.alpha
        self._test = [*sizes.values(), policy.transfer]
        self._independent = EProcess(**sizes)
        self._unrelated = None if policy.transfer is None else EProcess(**sizes, transfer=policy.transfer)

    def add(self, trigger_id: str, new_types: NewTypes) -> None:
        """One answer: its newly seen (token id, is green)."""
        self._independent.update(trigger_id, new_types)
        if self._unrelated is not None:
            self._unrelated.update(trigger_id, new_types)

    def seen(self, trigger_id: str) -> AbstractSet[int]:
        """The types that answers to a trigger have had; of no further use after the next answer."""
        return self._independent.seen(trigger_id)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later, as JSON values; holds no key, but colours of seen types."""
        unrelated = None
        if self._unrelated is not None:
            unrelated = self._unrelated.state()
            del unrelated["seen"]  # the same for both
        return {"test": self._test, "independent": self._independent.state(), "unrelated": unrelated}

    @classmethod
    def resumed(cls, pack: FingerprintPack, *, policy: Policy, state: dict[str, Any]) -> Self:
        """The ledger that :meth:`state` described, to the last bit.

        Raises:
            ValueError: it is of another test (after a new calibration), or no state.
        """
        ledger = cls(pack, policy=policy)
        if state.get("test") != ledger._test:
            raise ValueError("the state of another test")
        try:
            independent, unrelated = state["independent"], state["unrelated"]
            ledger._independent = EProcess.from_state(independent)
            if unrelated is not None:
                ledger._unrelated = EProcess.from_state({**unrelated, "seen": independent["seen"]})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of a ledger: {error!r}") from None
        return ledger

    @property
    def evidence(self) -> Evidence:
        """What the answers so far amount to."""
        independent, unrelated = self._independent, self._unrelated
        if unrelated is None:
            state = verdict_state(independent.max_log_e, alpha=self._alpha)
            verdict: VerdictState = "none" if state == "none" else "suspicious"
            return Evidence(None, None, independent.log_e, verdict)
        return Evidence(
            log_e=unrelated.log_e,
            log_e_max=unrelated.max_log_e,
            log_e_independent=independent.log_e,
            verdict=verdict_state(unrelated.max_log_e, alpha=self._alpha),
        )


def evidence(pack: FingerprintPack, answers: Iterable[tuple[str, NewTypes]], *, policy: Policy) -> Evidence:
    """Replay a target's e-processes.

    ``answers``: (trigger id, newly seen (token id, is green)) of every scored answer, in order of arrival.
    """
    ledger = Ledger(pack, policy=policy)
    for trigger_id, new_types in answers:
        ledger.add(trigger_id, new_types)
    return ledger.evidence


def score_new(
    scorer: PackScorer, trigger_id: str, text: str, *, seen: AbstractSet[int]
) -> tuple[ResponseScore, list[list[int]], bool]:
    """Score one answer.

    Returns:
        Its own score; the [token id, 0 or 1] that ``seen`` does not hold, in order of arrival; whether it
        is a hit: over every null model and its own exact p <= alpha of the calibration.
    """
    score = scorer.score(trigger_id, text)
    known = set(seen)
    new: list[list[int]] = []
    for token in scorer.types(trigger_id, text):
        if token.green is not None and token.id not in known:
            known.add(token.id)
            new.append([token.id, int(token.green)])
    calibration = scorer.pack.calibration
    row = calibration.row(trigger_id) if calibration is not None else None
    hit = row.exceeded_by(score) if row is not None else score.pvalue <= UNCALIBRATED_HIT
    return score, new, hit


def stand_out(log_e_values: Mapping[str, float | None]) -> frozenset[str]:
    """Targets that e-BH singles out by their current E against "unrelated model" (natural logs)."""
    known = {name: value for name, value in log_e_values.items() if value is not None}
    return ebh(known, alpha=FALSE_DISCOVERY_RATE)


def combine_counts(pack: FingerprintPack, counts: Iterable[tuple[str, int, int]]) -> CombinedScore | None:
    """The round's combined score from (trigger id, types, greens); None where nothing was scored."""
    scores = [
        ResponseScore.from_counts(
            greens=greens,
            types=types,
            vocab_size=pack.vocab_size,
            green_size=pack.green_size,
            trigger_id=trigger_id,
        )
        for trigger_id, types, greens in counts
    ]
    return combine(scores) if scores else None


def threshold_z(pack: FingerprintPack, *, types: int) -> float:
    """tau of a round: the normal quantile at 1 - ROUND_ALPHA, or what the greenest null model would reach.

    A null model whose green rate was gamma + x has, over ``types`` distinct types, an expected Stouffer z of
    ``x sqrt(types) / sqrt(gamma (1 - gamma))``: its calibrated excess at this round's size.
    """
    exact = NormalDist().inv_cdf(1 - ROUND_ALPHA)
    if pack.calibration is None:
        return exact
    gamma = pack.green_size / pack.vocab_size
    excess = max(pack.calibration.transfer.by_model.values(), default=0.0)
    return max(exact, excess * math.sqrt(types) / math.sqrt(gamma * (1 - gamma)))
