"""Null models' answers where triggers may be asked under several wordings.

Answers of one model to one trigger have words in common and are not independent: each model counts once a
trigger, whatever the number of wordings, and what is claimed holds for whichever wording is chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sif_offline.fingerprint.calibration_estimates import Answers, transfer_of
from sif_offline.fingerprint.calibration_rows import Transfer
from sif_offline.fingerprint.response import ResponseScore

OWN, GREENEST, POOLED = "own wording", "greenest wording", "all wordings together"


@dataclass(frozen=True)
class TriggerAnswers:
    """What one null model answered to one trigger.

    Attributes:
        scores: wording -> score of the answer to it; the trigger's own wording first.
        pooled: score of all these answers together, each type once: what an e-process has seen in the end.
    """

    scores: Mapping[str, ResponseScore]
    pooled: ResponseScore


NullAnswers = Mapping[str, Mapping[str, TriggerAnswers]]
"""Null model -> trigger id -> answers."""
GivenAnswers = Mapping[str, Mapping[str, ResponseScore | TriggerAnswers]]
"""The same; a bare score is the answer to a trigger that has one wording."""


def asked_wordings(given: GivenAnswers) -> dict[str, tuple[str, ...]]:
    """Trigger id -> wordings that the null models were asked beside the trigger's own.

    Raises:
        ValueError: null models were asked one trigger under different wordings.
    """
    asked: dict[str, tuple[str, ...]] = {}
    for by_trigger in given.values():
        for trigger_id, answers in by_trigger.items():
            found = tuple(_worded(answers).scores)[1:]
            if asked.setdefault(trigger_id, found) != found:
                raise ValueError(f"trigger {trigger_id}: null models were asked under different wordings")
    return asked


def scored_answers(given: GivenAnswers) -> dict[str, dict[str, TriggerAnswers]]:
    """The answers that have a scored type; a model without any has no trigger."""
    found: dict[str, dict[str, TriggerAnswers]] = {}
    for model, by_trigger in given.items():
        found[model] = {}
        for trigger_id, answers in by_trigger.items():
            worded = _worded(answers)
            scores = {wording: score for wording, score in worded.scores.items() if score.types}
            if scores:
                found[model][trigger_id] = TriggerAnswers(scores, worded.pooled)
    return found


def by_trigger(answers: NullAnswers) -> dict[str, list[list[ResponseScore]]]:
    """Trigger id -> for each wording the scores of the models that answered it."""
    found: dict[str, dict[str, list[ResponseScore]]] = {}
    for own in answers.values():
        for trigger_id, worded in own.items():
            for wording, score in worded.scores.items():
                found.setdefault(trigger_id, {}).setdefault(wording, []).append(score)
    return {trigger_id: list(groups.values()) for trigger_id, groups in found.items()}


def ways_of_asking(
    answers: NullAnswers, asked: Mapping[str, Sequence[str]], *, chosen_by: NullAnswers | None = None
) -> dict[str, Answers]:
    """The answers that one way of asking brings, one score a model and trigger.

    ``OWN``: the trigger's own wording. ``GREENEST``: for each trigger the one wording under which the null
    models together are greenest: no other rule of choosing a wording a trigger makes them greener, not even
    one that knows their answers. ``POOLED``: the distinct types of all wordings together. Without other
    wordings these are the same, and only the first is returned.

    Args:
        answers: of null models.
        asked: trigger id -> other wordings.
        chosen_by: the null models whose greenest wordings count, for ``answers`` of one held out from them.
    """
    own = _under(answers, lambda trigger_id, wording: wording not in asked[trigger_id])
    if not any(asked.values()):
        return {OWN: own}
    greenest = _greenest(chosen_by or answers)
    pooled = {model: {t: a.pooled for t, a in found.items()} for model, found in answers.items()}
    chosen = _under(answers, lambda trigger_id, wording: wording == greenest.get(trigger_id))
    # own is empty where no model spoke under an own wording
    return {name: way for name, way in ((OWN, own), (GREENEST, chosen), (POOLED, pooled)) if way}


def transfer_over(answers: NullAnswers, asked: Mapping[str, Sequence[str]], level: float) -> Transfer:
    """The transfer with the largest bound over all ways of asking; see ``transfer_of`` for one.

    Raises:
        CalibrationError: null models so green that no rate below 1 bounds them.
    """
    found = {name: transfer_of(scores, level) for name, scores in ways_of_asking(answers, asked).items()}
    name = max(found, key=lambda way: found[way].bound)
    if len(found) == 1:
        return found[name]
    bounds = {way: transfer.bound for way, transfer in found.items()}
    said = ", ".join(f"{way} +{bound:.3f}" for way, bound in bounds.items())
    statement = f"{found[name].statement}; the largest of the bounds {said}"
    return found[name].model_copy(update={"by_wording": bounds, "statement": statement})


def _worded(answers: ResponseScore | TriggerAnswers) -> TriggerAnswers:
    return TriggerAnswers({"": answers}, answers) if isinstance(answers, ResponseScore) else answers


def _under(answers: NullAnswers, chosen: Callable[[str, str], bool]) -> Answers:
    """The scores under the one wording of each trigger that is ``chosen``; models that have any."""
    found = {
        model: {
            trigger_id: score
            for trigger_id, worded in own.items()
            for wording, score in worded.scores.items()
            if chosen(trigger_id, wording)
        }
        for model, own in answers.items()
    }
    return {model: scores for model, scores in found.items() if scores}


def _greenest(answers: NullAnswers) -> dict[str, str]:
    counts: dict[str, dict[str, list[int]]] = {}
    for own in answers.values():
        for trigger_id, worded in own.items():
            for wording, score in worded.scores.items():
                count = counts.setdefault(trigger_id, {}).setdefault(wording, [0, 0])
                count[0] += score.greens
                count[1] += score.types
    return {
        trigger_id: max(found, key=lambda wording: found[wording][0] / found[wording][1])
        for trigger_id, found in counts.items()
    }
