"""RNA's noise, CroPA's perturbation and DI2-FGSM's pictures: each does what its paper says, and no more."""

from typing import Any

import pytest
import torch

from sif_offline.baselines import Target, make_method
from sif_offline.baselines.base import Job
from sif_offline.baselines.cropa import perturbing
from sif_offline.baselines.di2fgsm import Diverse
from sif_offline.baselines.pipeline import plan_jobs
from sif_offline.baselines.rna import noisy
from sif_offline.baselines.spans import question_span
from sif_offline.baselines.targeted import TargetLoss
from sif_offline.forging.pixels import pixel_tensor, prepare_photo
from sif_offline.lab import tiny_lab_model
from sif_offline.models.digest import weights_digest
from sif_offline.models.lab import LabAdapter
from sif_offline.models.testing import tiny_adapter
from sif_offline.models.testing.photos import photo

TARGET = Target(question="Describe it.", answer="A dog runs.", keywords=("dog",))
NEAR_NOTHING = {
    "rna": {"weight_noise": 1e-12},
    "cropa": {"text_rate": 1e-12},
    "di2-fgsm": {"diverse_share": 0.0},
}
MUCH = {
    "rna": {"weight_noise": 0.5},
    "cropa": {"text_rate": 1.0, "text_every": 1},
    "di2-fgsm": {"diverse_share": 1.0, "diverse_size": 0.5},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def owner() -> Any:
    made = tiny_adapter("llava")
    made.rules = type(made.rules)(max_new_tokens=4, end_ids=made.rules.end_ids)
    return made


@pytest.mark.parametrize("name", sorted(MUCH))
def test_an_opponent_of_no_strength_is_the_ordinary_attack(name: str, owner: Any) -> None:
    """From one starting point, and one that has strength leads elsewhere."""
    picture = prepare_photo(photo("coffee"), name="coffee", canvas=owner.canvas)

    def forged(name: str, more: dict[str, float]) -> bytes:
        method = make_method(name, {"steps": 5, "targets": [TARGET], **more})
        (made,) = method.forge(owner, plan_jobs(method, [picture], seed=0))
        assert made.png is not None
        return made.png

    ordinary = forged("ordinary", {})
    assert forged(name, NEAR_NOTHING[name]) == ordinary
    assert forged(name, MUCH[name]) != ordinary


def test_noise_is_drawn_anew_on_the_models_own_weights_and_does_not_add_up(owner: Any) -> None:
    before = weights_digest(owner.model)
    weight = owner.decoder_layers()[0].self_attn.q_proj.weight
    own = weight.detach().clone()
    with noisy(owner, noise=0.1, seed=3) as opponent:
        seen = []
        for _ in range(200):
            seen.append(weight.detach() - own)
            opponent.step(())
        deviations = torch.stack([noise.std() for noise in seen]) / own.std()
        assert not torch.equal(seen[0], seen[1])
        # 1,024 weights: a deviation is known to 2.2 %, and 200 of them all lie within five times that
        assert deviations.min() > 0.1 * 0.89
        assert deviations.max() < 0.1 * 1.11
    assert weights_digest(owner.model) == before
    assert torch.equal(weight, own)


@pytest.mark.parametrize("family", ["lab", "llava", "qwen2.5-vl"])
def test_the_perturbation_stands_on_the_users_words_alone_and_resists(family: str) -> None:
    """Only there does the decoder see other embeddings; after steps uphill the target is less likely."""
    adapter = LabAdapter(*tiny_lab_model(0), name="lab:tiny") if family == "lab" else tiny_adapter(family)
    picture = prepare_photo(photo("coffee"), name="coffee", canvas=adapter.canvas)
    jobs = [Job("t0", picture, TARGET, 0), Job("t1", picture, TARGET, 1)]
    pixels = pixel_tensor([picture.image()] * 2)
    loss_of = TargetLoss(adapter, [TARGET, TARGET])
    table = adapter.model.get_input_embeddings()
    seen: list[torch.Tensor] = []
    with perturbing(adapter, jobs, rate=0.3, bound=1.0, every=2) as opponent:
        hook = table.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
        losses = []
        for _ in range(13):
            loss = loss_of(pixels)
            losses.append(float(loss.detach().sum()))
            opponent.step(torch.autograd.grad(loss.sum(), opponent.variables))
        hook.remove()
        (perturbation,) = opponent.variables
        assert float(perturbation.detach().abs().max()) == pytest.approx(float(table.weight.std()), rel=1e-4)
    assert losses[0] == losses[1] < losses[-1]  # every second call is a step
    start, end = question_span(adapter, TARGET.question)
    moved = (seen[-1] - seen[0]).abs().amax(dim=(0, 2)) > 0
    assert moved.nonzero()[:, 0].tolist() == list(range(start, end))
    assert adapter.text(loss_of.prompt_ids[start:end].tolist()).strip() == TARGET.question
    with torch.no_grad():
        assert float(loss_of(pixels).sum()) == pytest.approx(losses[0], rel=1e-4)  # thrown away at the end


def test_diverse_pictures_are_smaller_somewhere_on_black_or_as_they_are() -> None:
    """Each by chance of its own: half of 400 within five deviations."""
    white = torch.full((2, 3, 40, 60), 255.0, requires_grad=True)
    diverse = Diverse([5, 6], share=0.5, smallest=0.5)
    kept = [0, 0]
    places = set()
    for _ in range(400):
        shown = diverse.shown(white)
        assert shown.shape == white.shape
        for row, picture in enumerate(shown.detach()):
            lit = (picture[0] > 0).nonzero()
            (top, left), (bottom, right) = lit.amin(0).tolist(), lit.amax(0).tolist()
            height, width = bottom - top + 1, right - left + 1
            assert len(lit) == height * width  # one upright rectangle, as bright as it was
            assert 20 <= height <= 40
            assert abs(height / 40 - width / 60) < 0.03
            kept[row] += (height, width) == (40, 60)
            places.add((top, left))
    # a transform of factor 1 counts as kept too: one in forty of the other half
    assert all(150 <= count <= 256 for count in kept), kept
    assert kept[0] != kept[1]
    assert len(places) > 50
    (slope,) = torch.autograd.grad(diverse.shown(white).sum(), white)
    assert float(slope.min()) > 0
