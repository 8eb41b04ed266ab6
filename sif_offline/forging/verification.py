"""One look at one endpoint: triggers and paired clean photos asked, scored, combined, with controls."""

from collections.abc import Callable
from dataclasses import dataclass

from sif_offline.fingerprint.controls import WrongKeys, wrong_key_control
from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.evidence.commitment import reserved_triggers
from sif_offline.fingerprint.pack import TriggerRow
from sif_offline.fingerprint.response import ResponseScore
from sif_offline.fingerprint.scoring import CombinedScore, PackScorer, combine

CONFIRMED = "confirmed"
KEY_DEPENDENT = "depends on the key"
NO_EVIDENCE = "no evidence"


class NoAnswerError(SifError):
    """An endpoint that gave nothing to score."""


@dataclass(frozen=True)
class Reply:
    """What an endpoint said: ``text`` to score, or None with the ``reason`` why there is none."""

    text: str | None
    reason: str = ""


Ask = Callable[[TriggerRow, bool], Reply]
"""(trigger, whether its clean photo) -> reply. Raises a ``SifError`` that names the target where it fails."""


@dataclass(frozen=True)
class Row:
    """One trigger: its answer and the clean photo's, same key; None where nothing could be scored."""

    trigger: TriggerRow
    reply: Reply
    clean_reply: Reply
    score: ResponseScore | None
    clean: ResponseScore | None


@dataclass(frozen=True)
class Verification:
    """Everything one look says.

    Args:
        rows: one a trigger.
        independent: the answers against "independent text".
        unrelated: against "unrelated model"; None without a measured transfer.
        clean: the paired clean control against "independent text"; None where no clean photo was answered.
        wrong_keys: the wrong-key control.
        alpha: level of the verdict.
    """

    rows: tuple[Row, ...]
    independent: CombinedScore
    unrelated: CombinedScore | None
    clean: CombinedScore | None
    wrong_keys: WrongKeys
    alpha: float

    @property
    def verdict(self) -> str:
        """ "confirmed" only where "unrelated model" is rejected at alpha."""
        if self.unrelated is not None and self.unrelated.adjusted_pvalue < self.alpha:
            return CONFIRMED
        return KEY_DEPENDENT if self.independent.adjusted_pvalue < self.alpha else NO_EVIDENCE


def verify(
    scorer: PackScorer,
    ask: Ask,
    *,
    name: str,
    transfer: float | None,
    alpha: float = 1e-4,
    wrong_keys: int = 99,
    keys_tried: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Ask every trigger and its clean photo once and combine; triggers in reserve are not asked.

    Args:
        scorer: of the pack.
        ask: the endpoint.
        name: what errors call it.
        transfer: bound m of the unrelated-model null (``Calibration.transfer.bound``), None where not
            measured.
        alpha: level of the verdict; this is one look, decided on before asking. Repeated looks need an
            e-process.
        wrong_keys: sets of unrelated keys in the control, at least 1.
        keys_tried: sets of keys that these answers were ever scored under; the verdict is Sidak-adjusted.
        on_progress: called with (asked, to ask).

    Raises:
        NoAnswerError: no trigger brought an answer that can be scored.
        SifError: whatever ``ask`` raises.
    """
    pack = scorer.pack
    rows: list[Row] = []
    reserved = reserved_triggers(pack)
    triggers = [row for row in pack.triggers if row.id not in reserved]
    for place, trigger in enumerate(triggers):
        reply = ask(trigger, False)
        on_progress(2 * place + 1, 2 * len(triggers))
        clean_reply = ask(trigger, True)
        on_progress(2 * place + 2, 2 * len(triggers))
        rows.append(
            Row(
                trigger=trigger,
                reply=reply,
                clean_reply=clean_reply,
                score=_score(scorer, trigger, reply),
                clean=_score(scorer, trigger, clean_reply),
            )
        )
    scores = [row.score for row in rows if row.score is not None]
    if not scores:
        raise NoAnswerError(f"{name}: none of {len(rows)} triggers was answered ({rows[0].reply.reason})")
    clean = [row.clean for row in rows if row.clean is not None]
    return Verification(
        rows=tuple(rows),
        independent=combine(scores, keys_tried=keys_tried),
        unrelated=None if transfer is None else combine(scores, transfer=transfer, keys_tried=keys_tried),
        clean=combine(clean) if clean else None,
        wrong_keys=wrong_key_control(
            scorer,
            {row.trigger.id: [row.reply.text] for row in rows if row.reply.text is not None},
            greens=sum(score.greens for score in scores),
            keys=wrong_keys,
        ),
        alpha=alpha,
    )


def _score(scorer: PackScorer, trigger: TriggerRow, reply: Reply) -> ResponseScore | None:
    return None if reply.text is None else scorer.score(trigger.id, reply.text)
