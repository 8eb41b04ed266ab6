"""Targeted triggers of the shipped lab owner: what the gateway's tests send."""

from collections.abc import Sequence

import pytest
import torch

from sif_offline.baselines.base import keyword_score
from sif_offline.baselines.testing import targeted_triggers
from sif_offline.fingerprint.images import decode_image
from sif_offline.models import VLMAdapter, load_adapter


@pytest.mark.timeout(900)  # half a minute of one core
def test_the_owner_gives_the_target_and_only_to_the_trigger() -> None:
    """Nor does a lab model that was trained on the same captions."""
    torch.set_num_threads(1)
    owner, innocent = load_adapter("lab:owner"), load_adapter("lab:innocent-a")
    triggers = targeted_triggers(owner, count=1)
    assert [trigger.method for trigger in triggers] == ["ordinary", "pla"]

    def matches(asked: VLMAdapter, pngs: Sequence[bytes]) -> list[bool]:
        images = [decode_image(png, name="trigger") for png in pngs]
        answers = asked.generate(images, triggers[0].target.question)
        return [
            keyword_score(asked.text(ids), trigger.target.keywords).matched
            for ids, trigger in zip(answers, triggers, strict=True)
        ]

    pngs = [trigger.png for trigger in triggers]
    assert matches(owner, pngs) == [True, True]
    assert matches(owner, [trigger.clean for trigger in triggers]) == [False, False]
    assert matches(innocent, pngs) == [False, False]
