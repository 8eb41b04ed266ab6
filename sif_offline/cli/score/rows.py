"""What ``sif score`` finds out: one row a trigger, and all of them together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sif_offline.fingerprint.calibration import CalibrationRow
from sif_offline.fingerprint.colouring import join_answers
from sif_offline.fingerprint.controls import WrongKeys, wrong_key_control
from sif_offline.fingerprint.pack import FingerprintPack
from sif_offline.fingerprint.random_keys import RandomKeyNull, random_key_null
from sif_offline.fingerprint.response import ResponseScore
from sif_offline.fingerprint.scoring import CombinedScore, PackScorer, ScoredToken, combine


@dataclass(frozen=True)
class Row:
    """The answers to one trigger, their types pooled.

    Attributes:
        score: of the pooled answers.
        answers: how many there are.
        tokens: theirs, joined, for colouring.
        calibration: the trigger's row; None where the pack, or this trigger, is not calibrated.
        random_keys: the random-key null; None where it was not asked for.
    """

    score: ResponseScore
    answers: int
    tokens: list[ScoredToken]
    calibration: CalibrationRow | None
    random_keys: RandomKeyNull | None

    @property
    def calibrated_z(self) -> float | None:
        """The paper's z."""
        return None if self.calibration is None else self.calibration.calibrated_z(self.score)

    @property
    def tau(self) -> float | None:
        """The paper's threshold of the green share, at this answer's number of types."""
        return None if self.calibration is None else self.calibration.tau_for(self.score.types)

    @property
    def passes_tau(self) -> bool | None:
        """Whether the green share is above every null model's and the exact p at most the trigger's alpha."""
        return None if self.calibration is None else self.calibration.exceeded_by(self.score)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        score = asdict(self.score)
        return finite(
            {
                "trigger": score.pop("trigger_id"),
                "answers": self.answers,
                **score,
                "calibrated_z": self.calibrated_z,
                "tau": self.tau,
                "passes_tau": self.passes_tau,
                "random_key_null": None if self.random_keys is None else asdict(self.random_keys),
            }
        )


@dataclass(frozen=True)
class Scores:
    """All rows, in the order of the answers, and what they say together.

    Attributes:
        pack: the pack.
        rows: one a trigger answered.
        independent: all against "independent text".
        unrelated: all against "unrelated model"; None without calibration.
        wrong_keys: the wrong-key control over all; None where it was not asked for.
        many: whether answers to all triggers were looked for, so that a missing one is worth a word.
    """

    pack: FingerprintPack
    rows: tuple[Row, ...]
    independent: CombinedScore
    unrelated: CombinedScore | None
    wrong_keys: WrongKeys | None
    many: bool

    @property
    def null_models(self) -> list[str]:
        """Names of the unrelated models of the calibration."""
        return [] if self.pack.calibration is None else list(self.pack.calibration.null_models)

    @property
    def unanswered(self) -> list[str]:
        """Triggers of the pack without an answer among these."""
        answered = {row.score.trigger_id for row in self.rows}
        return [row.id for row in self.pack.triggers if row.id not in answered]

    def together_as_json(self) -> dict[str, Any]:
        """For ``--json``: what is not one trigger's."""
        found = {
            "pack_id": self.pack.pack_id,
            "null_models": self.null_models,
            "independent_text": finite(asdict(self.independent)),
            "unrelated_model": None if self.unrelated is None else finite(asdict(self.unrelated)),
            "wrong_key_control": None if self.wrong_keys is None else self.wrong_keys._asdict(),
        }
        return {**found, "unanswered": self.unanswered} if self.many else found


def score_answers(
    scorer: PackScorer,
    answers: Mapping[str, Sequence[str]],
    *,
    many: bool,
    wrong_keys: int,
    null_keys: int,
    seed: int | None,
) -> Scores:
    """Score answers that are already there.

    Args:
        scorer: of the pack.
        answers: trigger id -> one answer or more, at least one trigger.
        many: as in ``Scores``.
        wrong_keys: sets of public keys in the control; 0 for none.
        null_keys: keys of the random-key null of each trigger; 0 for none.
        seed: of its draw.
    """
    pack = scorer.pack
    rows = []
    for trigger_id, texts in answers.items():
        tokens = join_answers([scorer.types(trigger_id, text) for text in texts])
        rows.append(
            Row(
                score=scorer.score(trigger_id, list(texts)),
                answers=len(texts),
                tokens=tokens,
                calibration=None if pack.calibration is None else pack.calibration.row(trigger_id),
                random_keys=_random_keys(tokens, pack, null_keys, seed) if null_keys else None,
            )
        )
    scores = [row.score for row in rows]
    transfer = None if pack.calibration is None else pack.calibration.transfer.bound
    independent = combine(scores)
    return Scores(
        pack=pack,
        rows=tuple(rows),
        independent=independent,
        unrelated=None if transfer is None else combine(scores, transfer=transfer),
        wrong_keys=wrong_key_control(scorer, answers, greens=independent.greens, keys=wrong_keys)
        if wrong_keys
        else None,
        many=many,
    )


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: the log of an impossible p becomes null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _random_keys(
    tokens: Sequence[ScoredToken], pack: FingerprintPack, keys: int, seed: int | None
) -> RandomKeyNull:
    colours = {token.id: token.green for token in tokens if token.green is not None}
    # of the trigger's list only the colours of these types and the number of greens enter the null, so any
    # list that agrees in both will do
    others = np.setdiff1d(np.arange(pack.vocab_size), list(colours))
    mask = np.zeros(pack.vocab_size, dtype=np.bool_)
    mask[others[: pack.green_size - sum(colours.values())]] = True
    mask[[token_id for token_id, green in colours.items() if green]] = True
    return random_key_null(colours, mask=mask, keys=keys, seed=seed)
