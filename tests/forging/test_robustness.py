"""RFO: every chosen layer drifts, and the drifts' joint norm is rho for each trigger."""

import pytest
import torch

from sif_offline.forging.optimiser import Batch
from sif_offline.forging.pixels import Photo, pixel_tensor
from sif_offline.forging.robustness import captured_states, drifted_states, worst_drift
from sif_offline.forging.settings import ForgeSettings, SettingsError
from sif_offline.models.lab import LabAdapter


def make_batch(adapter: LabAdapter, settings: ForgeSettings) -> Batch:
    green = torch.zeros(2, adapter.vocab_size, dtype=torch.bool)
    green[0, ::2] = True
    green[1, 1::2] = True
    teachers = [[20, 30, 40, 50, 60], [21, 31, 41]]
    return Batch(adapter, prompt="Describe.", teachers=teachers, green=green, settings=settings)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("rho", [0.5, 0.05], ids=["paper", "official"])
@pytest.mark.parametrize(
    ("scheme", "chosen"),
    [({}, (0, 1)), ({"rfo_every": 2}, (0,)), ({"rfo_layers": (1,)}, (1,)), ({"rfo_layers": (1, 0)}, (0, 1))],
)
def test_every_chosen_layer_drifts_and_the_joint_norm_is_rho(
    adapter: LabAdapter,
    settings: ForgeSettings,
    photos: list[Photo],
    autocast: bool,
    rho: float,
    scheme: dict[str, object],
    chosen: tuple[int, ...],
) -> None:
    """Under bfloat16 as well: the drift is added in float32, where rho .05 over all states is not lost."""
    s = settings.model_copy(update={"rho": rho, "autocast": autocast, **scheme})
    batch = make_batch(adapter, s)
    assert batch.layers == [adapter.decoder_layers()[number] for number in chosen]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        features = adapter.encode_images(pixel_tensor([photo.image() for photo in photos[:2]]))
        drifts = batch._drifts(features)
        with drifted_states(batch.layers, drifts) as realised:
            adapter.response_logits(features, batch.prompt_ids, batch.response_ids)
    assert len(realised) == len(chosen)
    assert all(drift.dtype == torch.float32 for drift in realised)
    norms = torch.stack([drift.flatten(1).norm(dim=1) for drift in realised])
    assert bool((norms > 2e-3 * rho).all())
    torch.testing.assert_close(norms.square().sum(0).sqrt(), torch.full((2,), rho), rtol=2e-3, atol=0)


def test_a_layer_that_is_not_there_is_named(adapter: LabAdapter, settings: ForgeSettings) -> None:
    with pytest.raises(SettingsError, match=r"setting rfo_layers: 7 of lab:tiny's layers 0 \.\. 1"):
        make_batch(adapter, settings.model_copy(update={"rfo_layers": (0, 7)}))


def test_the_drift_raises_the_loss_more_than_a_random_one(
    adapter: LabAdapter, settings: ForgeSettings, photos: list[Photo]
) -> None:
    batch = make_batch(adapter, settings)
    embeds = adapter.encode_images(pixel_tensor([photo.image() for photo in photos[:2]]))
    drifts = batch._drifts(embeds)
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(drift.shape, generator=generator) for drift in drifts]
    joint = torch.stack([part.flatten(1).square().sum(1) for part in noise]).sum(0).sqrt()
    random = [settings.rho * part / joint[:, None, None] for part in noise]

    def loss(with_drifts: list[torch.Tensor]) -> torch.Tensor:
        with drifted_states(batch.layers, with_drifts):
            logits = adapter.response_logits(embeds, batch.prompt_ids, batch.response_ids)
        return batch.losses(logits).total

    still = loss([torch.zeros_like(drift) for drift in drifts])
    assert bool((loss(drifts) - still > (loss(random) - still).abs()).all())
    assert bool((loss(drifts) > still).all())


def test_members_of_a_batch_do_not_share_the_norm() -> None:
    state = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = (state[0].square().sum() * 1e3) + state[1].square().sum() * 1e-3
    (drift,) = worst_drift(loss, [state], rho=2.0)
    torch.testing.assert_close(drift.flatten(1).norm(dim=1), torch.full((2,), 2.0))
    (none,) = worst_drift((state * 0).sum(), [state], rho=2.0)
    assert bool((none == 0).all())


def test_hooks_are_gone_afterwards(adapter: LabAdapter) -> None:
    layers = adapter.decoder_layers()
    with pytest.raises(RuntimeError, match="stop"), captured_states(layers):
        raise RuntimeError("stop")
    assert all(not layer._forward_hooks for layer in layers)
