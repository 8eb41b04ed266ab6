"""Targeted triggers of the shipped lab owner: what the gateway's tests send."""

import pytest
import torch

from sif_offline.baselines import make_method
from sif_offline.baselines.testing import TargetedTrigger, targeted_triggers
from sif_offline.fingerprint.images import decode_image
from sif_offline.models import load_adapter


@pytest.fixture(scope="module")
def triggers() -> list[TargetedTrigger]:
    torch.set_num_threads(1)
    return targeted_triggers(load_adapter("lab:owner"), count=1)


def test_the_owner_gives_the_target_and_only_to_the_trigger(triggers: list[TargetedTrigger]) -> None:
    """Nor does a lab model that was trained on the same captions."""
    assert [trigger.method for trigger in triggers] == ["ordinary", "pla"]
    owner, innocent = load_adapter("lab:owner"), load_adapter("lab:innocent-a")
    for trigger in triggers:
        method = make_method(trigger.method)

        def matches(asked: object, png: bytes, *, trigger=trigger, method=method) -> bool:
            (ids,) = asked.generate([decode_image(png, name="trigger")], trigger.target.question)
            return method.score(asked.text(ids), trigger.target).matched

        assert matches(owner, trigger.png)
        assert not matches(owner, trigger.clean)
        assert not matches(innocent, trigger.png)
