"""Other wordings of the prompt under which a finished trigger still works.

A watch whose questions all carry the same words is easily recognised. After a trigger is final its owner
answers it, from the PNG's bytes and greedily, under each wording; the wordings that are nearly as good as
the trigger's own are kept in the pack. Only the owner is asked, before any commitment; null models answer
what was kept afterwards (``sif calibrate``).

What a wording is worth is what a trigger is worth (:mod:`sif_offline.forging.keeping`): the z of the answer
less half the z of the clean photo's answer under the same key and wording, which an honest model may share.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sif_offline.fingerprint.pack import (
    FingerprintPack,
    PromptVariant,
    TriggerRow,
    require_uncommitted,
    set_variants,
)
from sif_offline.fingerprint.response import ResponseScore
from sif_offline.fingerprint.scoring import PackScorer
from sif_offline.forging.keeping import worth
from sif_offline.forging.nulls import Question, Questions, greedy_answers
from sif_offline.forging.wordings import VariantRule
from sif_offline.forging.workdir import ForgeError
from sif_offline.models.base import VLMAdapter


@dataclass(frozen=True)
class Said:
    """The owner's answers under one wording: to a trigger and to its clean photo, under the same key."""

    score: ResponseScore
    clean: ResponseScore

    @property
    def judged(self) -> dict[str, float]:
        """z by condition, as a pack keeps it."""
        return {"greedy": self.score.z, "clean": self.clean.z}


Heard = Mapping[str, Mapping[str, Said]]
"""Trigger id -> wording -> what the owner said; the trigger's own wording is among them."""


def hear(
    adapter: VLMAdapter,
    scorer: PackScorer,
    wordings: Sequence[str],
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, Said]]:
    """The owner's greedy answers to every trigger of the pack and its clean photo under each wording.

    Raises:
        ForgeError: the model is not the pack's owner.
    """
    pack = scorer.pack
    if adapter.weights_sha256 != pack.owner.weights_sha256:
        raise ForgeError(f"{adapter.name}: is not the owner of pack {pack.pack_id} ({pack.owner.id})")
    asked = [(row, wording) for row in pack.triggers for wording in dict.fromkeys((row.prompt, *wordings))]
    pictures = {row.id: (pack.trigger_bytes(row), pack.clean_bytes(row)) for row in pack.triggers}
    rows = tuple(Question(row.id, wording, image) for row, wording in asked for image in pictures[row.id])
    questions = Questions(pack.pack_id, rows, pack.owner.weights_sha256, pack.decoding.max_new_tokens)
    texts = iter(greedy_answers(adapter, questions, on_progress=on_progress))
    heard: dict[str, dict[str, Said]] = {row.id: {} for row in pack.triggers}
    for (row, wording), text, clean in zip(asked, texts, texts, strict=True):
        heard[row.id][wording] = Said(scorer.score(row.id, text), scorer.score(row.id, clean))
    return heard


def allowed(row: TriggerRow, heard: Mapping[str, Said], rule: VariantRule) -> tuple[PromptVariant, ...]:
    """The wordings that a trigger keeps by the rule, the worthiest first; of equals the earlier."""
    bar = rule.bar * worth(heard[row.prompt].judged)
    worthy = {
        wording: worth(said.judged)
        for wording, said in heard.items()
        if wording != row.prompt and worth(said.judged) > 0 and worth(said.judged) >= bar
    }
    return tuple(
        PromptVariant(
            prompt=wording,
            expected_green_share=heard[wording].score.green_share,
            judged=heard[wording].judged,
        )
        for wording in sorted(worthy, key=lambda wording: -worthy[wording])[: rule.most]
    )


def add_variants(
    path: Path,
    adapter: VLMAdapter,
    scorer: PackScorer,
    rule: VariantRule,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[FingerprintPack, dict[str, dict[str, Said]]]:
    """Judge the rule's wordings and put those allowed into the pack at ``path``, in place of what it has.

    Returns:
        The pack as it is then, without its calibration if any wording changed, and what the owner said.

    Raises:
        PackError: the pack is committed, or cannot be written.
        ForgeError: the model is not the pack's owner.
    """
    require_uncommitted(path, scorer.pack)
    heard = hear(adapter, scorer, rule.wordings, on_progress=on_progress)
    variants = {row.id: allowed(row, heard[row.id], rule) for row in scorer.pack.triggers}
    return set_variants(path, variants, rule=rule.model_dump(mode="json")), heard
