"""One pass a step with RFO: the drift comes from the gradients of the step before."""

import numpy as np
import pytest
import torch

from sif_offline.forging import robustness
from sif_offline.forging.optimiser import Batch
from sif_offline.forging.pixels import Photo, pixel_tensor
from sif_offline.forging.settings import ForgeSettings
from sif_offline.models.lab import LabAdapter


def test_the_drift_of_the_step_before(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    s = settings.model_copy(update={"rfo_reuse": True})
    green = torch.from_numpy(np.random.default_rng(0).random((1, adapter.vocab_size)) < 0.5)
    batch = Batch(adapter, prompt="Describe.", teachers=[(5, 6, 7, 8)], green=green, settings=s)
    pixels = pixel_tensor([photos[0].image()])
    passes: list[int] = []
    whole = adapter.response_logits
    monkeypatch.setattr(adapter, "response_logits", lambda *given: (passes.append(1), whole(*given))[1])
    fresh = Batch(adapter, prompt="Describe.", teachers=[(5, 6, 7, 8)], green=green, settings=settings)
    first, _ = batch.gradient(pixels)
    assert torch.equal(first, fresh.gradient(pixels)[0]), "nothing to reuse at the first step"
    assert len(passes) == 4
    drifts = batch.last_drifts
    norm = torch.stack([drift.square().sum() for drift in drifts]).sum().sqrt()
    assert len(drifts) == len(batch.layers)
    assert float(norm) == pytest.approx(s.rho, rel=1e-4)
    seen: list[list[torch.Tensor]] = []
    drifted = robustness.drifted_states
    monkeypatch.setattr(
        robustness, "drifted_states", lambda layers, given: (seen.append(given), drifted(layers, given))[1]
    )
    batch.gradient(pixels)
    assert len(passes) == 5
    assert seen == [drifts]
