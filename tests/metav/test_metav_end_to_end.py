"""Digits from zoo to verdict: suspects that nothing was fitted to."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from sif_offline.fingerprint.metav.pack import MetaVPack, TensorInput
from sif_offline.fingerprint.metav.scoring import MetaVScorer
from sif_offline.fingerprint.metav.verifier import Activation, Form, Transform
from sif_offline.fingerprint.metav.views import seen_through
from sif_offline.metav.ensemble import Ensemble
from sif_offline.metav.evaluation import Evaluation, evaluate_metav
from sif_offline.metav.packing import MetaVPackingError, answers_of, pack_metav, queries_of
from sif_offline.metav.presets import PRESETS
from sif_offline.metav.queries import Queries, Start, first_queries
from sif_offline.metav.settings import MetaVSettings, MetaVSettingsError, metav_settings
from sif_offline.metav.tasks import make_task
from sif_offline.metav.train import Trained, train_metav
from sif_offline.metav.transport import transported
from sif_offline.metav.verifier import Sides, TrainedVerifier
from sif_offline.metav.zoo import Zoo
from tests.metav.conftest import CREATED, SETTINGS, SIZE

SHORT = MetaVSettings(queries=5, steps=12, check_every=4, hidden=(8,), scored_views=("full",))


@pytest.fixture(scope="module")
def evaluations(pack: MetaVPack, zoo: Zoo) -> dict[str, Evaluation]:
    return {found.view: found for found in evaluate_metav(pack, zoo)}


def test_unseen_thieves_are_told_from_unseen_strangers(evaluations: dict[str, Evaluation]) -> None:
    """The bar: ROC-AUC .95 on 20 thieves of attacks that no training saw and 20 strangers.

    Zoo and training are seeded, so the only chance in it is that of another machine's arithmetic.
    """
    found = evaluations["full"]
    assert len(found.side(stolen=True)) == len(found.side(stolen=False)) == SIZE.test
    assert found.roc_auc.estimate >= 0.95
    assert found.verifier_true_negatives.estimate >= 0.9
    assert found.verifier_true_positives.estimate >= 0.6
    assert found.aruc.low < found.aruc.estimate < found.aruc.high


@pytest.mark.parametrize("view", ["rounded-2", "rounded-1", "top-3", "label"])
def test_what_an_api_leaves_out_costs_little(evaluations: dict[str, Evaluation], view: str) -> None:
    """The bar: ROC-AUC .9, of the label alone as well."""
    assert evaluations[view].roc_auc.estimate >= 0.9


def test_the_splits_share_no_model_and_test_thieves_no_attack(zoo: Zoo) -> None:
    keys = [row.recipe.key for row in zoo.members]
    assert len(set(keys)) == len(keys)
    files = {row.name: (zoo.folder / row.file).read_bytes() for row in zoo.members}
    assert len(set(files.values())) == len(files)
    kinds = {split: {row.recipe.kind for row in zoo.of(split, "positive")} for split in ("train", "test")}
    assert not kinds["train"] & kinds["test"]
    assert len(kinds["test"]) >= 9


def test_thieves_serve_models_that_are_worth_stealing(zoo: Zoo) -> None:
    assert zoo.named("owner").quality > 0.94
    for row in zoo.members:
        if row.recipe.kind not in ("prune-layers", "retrain-last"):
            assert row.quality > 0.88, row.name


def test_the_training_is_on_what_the_pack_holds(pack: MetaVPack, trained: Trained, zoo: Zoo) -> None:
    """The pack's bytes are the trained queries, and the held-out scores are of them."""
    queries = queries_of(pack)
    np.testing.assert_array_equal(queries, trained.queries)
    assert queries.dtype == np.float32
    assert 0 <= queries.min() < queries.max() <= 1
    rows = zoo.of("calibration", "negative")
    answers = answers_of(zoo.models(rows), queries)
    scorer = MetaVScorer(pack, view="label")
    found = sorted(scorer.score(np.eye(10)[answer.argmax(-1)]).log_odds for answer in answers)
    np.testing.assert_allclose(found, sorted(pack.held_out.negatives["label"]), atol=1e-9)
    assert {len(scores) for scores in pack.held_out.negatives.values()} == {SIZE.calibration}


def test_the_state_kept_is_the_best_on_the_validation_models(zoo: Zoo, trained: Trained) -> None:
    """Its queries and its verifier, of one step: scored anew they give the loss that was kept."""
    losses = []
    for view in ("full", "rounded-1", "label"):
        parts = []
        rows = ("train", "owner", -1), ("validation", "positive", -1), ("validation", "negative", 1)
        for split, role, sign in rows:
            answers = answers_of(zoo.models(zoo.of(split, role)), trained.queries)
            parts.append(
                np.logaddexp(0, sign * trained.verifier.log_odds(seen_through(answers, view))).mean()
            )
        losses.append(sum(parts))
    assert np.mean(losses) == pytest.approx(trained.validation_loss, abs=1e-4)
    progress = []
    again = train_metav(zoo, SHORT, on_progress=progress.append)
    assert again.validation_loss == min(one.best for one in progress)
    assert progress[-1].step == again.steps == 12


def drawn(seed: int) -> Sides:
    """Probabilities of 4 classes for 7 queries; those of copies lean to the first class."""
    generator = torch.Generator().manual_seed(seed)
    copies, others = (torch.rand((9, 7, 4), generator=generator) for _ in range(2))
    copies[..., 0] += 2
    return Sides(copies.softmax(-1), others.softmax(-1))


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("activation", get_args(Activation))
def test_the_exported_verifier_is_the_trained_one(form: Form, activation: Activation) -> None:
    for transform in get_args(Transform):
        verifier = TrainedVerifier(
            queries=7,
            size=4,
            form=form,
            hidden=() if form == "cosine" else (6, 5),
            activation=activation,
            transform=transform,
            seed=3,
        )
        fitted = drawn(1)
        verifier.begin(fitted, drawn(2))
        outputs = torch.cat([fitted.copies, fitted.others])
        with torch.no_grad():
            for parameter in verifier.parameters():
                parameter.add_(0.1)
            expected = verifier(outputs).numpy()
        found = verifier.export().log_odds(outputs.numpy())
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-6)  # float32
        assert np.ptp(expected) > 1e-3


def test_a_matched_filter_begins_half_way_between_models_it_does_not_know() -> None:
    """Mean log-odds of held-out copies 5, of held-out strangers -5: a threshold before any training."""
    verifier = TrainedVerifier(
        queries=7, size=4, form="cosine", hidden=(), activation="relu", transform="none", seed=0
    )
    held_out = drawn(2)
    verifier.begin(drawn(1), held_out)
    with torch.no_grad():
        copies, others = verifier(held_out.copies), verifier(held_out.others)
    assert float(copies.mean()) == pytest.approx(5, abs=1e-4)
    assert float(others.mean()) == pytest.approx(-5, abs=1e-4)
    assert copies.min() > 0 > others.max()


def test_the_same_seed_makes_the_same_pack_and_another_one_another(zoo: Zoo, tmp_path: Path) -> None:
    def build(name: str, settings: MetaVSettings) -> MetaVPack:
        return pack_metav(tmp_path / name, zoo, train_metav(zoo, settings), settings, created=CREATED)

    first, second = build("a.zip", SHORT), build("b.zip", SHORT)
    assert first.pack_id == second.pack_id
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert build("c.zip", SHORT.model_copy(update={"seed": 1})).pack_id != first.pack_id


@pytest.mark.parametrize(
    "changed",
    [
        {"form": "joint"},
        {"activation": "none"},
        {"transform": "log"},
        {"sampled": 0},
        {"transport": ("noise-.1", "levels-7", "shift-1")},
        {"start": "noise"},
        {"start": "unsure", "reach": 0.1},
        {"transform": "cosines"},
        {"form": "cosine", "hidden": None},
        {"hidden": (8, 4)},
        {"views": ("top-3",)},
    ],
)
def test_every_option_trains(zoo: Zoo, changed: dict) -> None:
    """Each one learns something: the loss on the validation models falls."""
    progress = []
    settings = SHORT.model_copy(update={"verifier_rate": 0.01, **changed})
    found = train_metav(zoo, settings, on_progress=progress.append)
    plain = train_metav(zoo, SHORT.model_copy(update={"verifier_rate": 0.01}))
    assert found.validation_loss < 0.99 * progress[0].best  # what it began with
    assert not np.array_equal(found.queries, plain.queries)


def test_queries_move_inside_their_bounds_only() -> None:
    limits = TensorInput(shape=(8,), low=-1, high=3)
    first = torch.linspace(-1, 3, 24).reshape(3, 8)
    for reach in (1, 0.1):
        queries = Queries(first, limits=limits, reach=reach)
        torch.testing.assert_close(queries(), first, atol=0.02 * 4 * reach, rtol=0)
        for end, bound in (
            (-1e4, (first - 4 * reach).clamp_min(-1)),
            (1e4, (first + 4 * reach).clamp_max(3)),
        ):
            with torch.no_grad():
                queries.raw.fill_(end)
            torch.testing.assert_close(queries(), bound, atol=1e-6, rtol=0)
            assert queries().min() >= -1
            assert queries().max() <= 3


def test_queries_begin_where_they_were_told_to(zoo: Zoo) -> None:
    owner = zoo.model(zoo.owner)
    data = owner.task.data()

    def first(start: Start, count: int = 5, seed: int = 0) -> torch.Tensor:
        return first_queries(owner, count=count, start=start, seed=seed)

    def answers(inputs: torch.Tensor) -> torch.Tensor:
        return owner.answers(inputs).max(-1).values

    assert all((data.train_inputs == query).flatten(1).all(1).any() for query in first("data"))
    assert all((data.test_inputs == query).flatten(1).all(1).any() for query in first("unsure"))
    assert answers(first("unsure")).max() < answers(data.test_inputs).median()
    assert torch.equal(first("unsure", 9)[:5], first("unsure", seed=1))
    assert torch.equal(first("data"), first("data"))
    assert not torch.equal(first("data"), first("data", seed=1))
    assert torch.equal(first("unsure", len(data.test_inputs) + 2)[-2:], first("unsure", 2))


@pytest.mark.parametrize("way", ["noise-.05", "levels-255", "shift-2"])
def test_queries_arrive_inside_their_bounds_with_their_gradient(way: str) -> None:
    limits = make_task("digits").input
    sent = 0.02 + 0.96 * torch.rand((4, *limits.shape), generator=torch.Generator().manual_seed(1))
    sent.requires_grad_(True)
    first, again = (transported(sent, way, limits, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert 0 <= first.min() < first.max() <= 1
    assert not torch.equal(first, sent)
    (gradient,) = torch.autograd.grad(first.sum(), sent)
    inside = (first > 0) & (first < 1) if way == "noise-.05" else torch.ones_like(first)
    assert torch.equal(gradient, inside.float())  # what noise pushes out of the bounds moves no further
    if way == "levels-255":
        torch.testing.assert_close(first * 255, (first * 255).round(), atol=1e-4, rtol=0)
    if way == "shift-2":
        assert torch.equal(first.flatten().sort().values, sent.flatten().sort().values)


def test_answers_of_the_ensemble_are_those_of_each_model(zoo: Zoo) -> None:
    """Disguised ones and several architectures among them; gradients too."""
    rows = [*zoo.of("test", "positive"), *zoo.of("test", "negative")[:6], *zoo.of("train", "positive")[:6]]
    models = zoo.models(rows)
    inputs = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    together, alone = Ensemble(models).answers(inputs), torch.stack([m.answers(inputs) for m in models])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    chosen = torch.tensor([0, 3, len(models) - 1])
    torch.testing.assert_close(Ensemble(models).answers(inputs, chosen), alone[chosen], atol=1e-5, rtol=1e-4)
    weight = torch.rand(alone.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((weight * found).sum(), inputs)[0] for found in (together, alone)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)
    assert not any(p.requires_grad for model in models for p in model.network.parameters())


def test_the_owner_of_another_zoo_is_refused(pack: MetaVPack, zoo: Zoo) -> None:
    other = pack.model_copy(update={"owner": pack.owner.model_copy(update={"revision": "0" * 24})})
    with pytest.raises(MetaVPackingError, match="not the one of the zoo"):
        evaluate_metav(other, zoo)


def test_settings_that_make_no_sense_are_refused() -> None:
    for values, said in (
        ({"querys": 3}, "querys"),
        ({"queries": 0}, "queries"),
        ({"views": "full,most"}, "rounded-DECIMALS"),
        ({"hidden": "0"}, "widths"),
        ({"transport": "rain"}, "shift-PIXELS"),
        ({"start": "zero"}, "start"),
        ({"reach": 0}, "reach"),
        ({"form": "cosine", "hidden": "8"}, "no hidden layers"),
    ):
        with pytest.raises(MetaVSettingsError, match=said):
            metav_settings(values)
    assert metav_settings({"hidden": "8,4", "views": "full, label"}).hidden == (8, 4)
    for settings, said in (
        (MetaVSettings(views=("label",)), "label"),
        (MetaVSettings(start="unsure"), "unsure"),
        (MetaVSettings(transform="log"), "log"),
    ):
        with pytest.raises(MetaVSettingsError, match=said):
            settings.for_outputs("values")
    assert MetaVSettings().for_outputs("values").scored_views == ("full", "rounded-2", "rounded-1")


def test_training_leaves_the_zoo_as_it_was(zoo: Zoo) -> None:
    model = zoo.model(zoo.named("owner"))
    assert isinstance(model.network, nn.Module)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    train_metav(zoo, SHORT)
    for name, value in zoo.model(zoo.named("owner")).network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
    assert SETTINGS.form == "each"


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metav.md").read_text(encoding="utf-8")
    assert not [name for name in (*MetaVSettings.model_fields, *PRESETS) if f"`{name}`" not in page]
    for preset in PRESETS.values():
        assert not [name for name in preset if f"`{name}=" not in page]
