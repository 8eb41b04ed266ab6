"""The rivals on digits: each does what its paper says, and is judged as MetaV is."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sif_offline.fingerprint.metav.pack import Output
from sif_offline.fingerprint.metav.views import seen_through
from sif_offline.metav.metrics import roc_auc
from sif_offline.metav.packing import answers_of
from sif_offline.metav.rivals import RIVALS, RivalError, evaluate_rival, forge_rival, make_rival
from sif_offline.metav.rivals.base import Rival, Sources, label_agreement
from sif_offline.metav.rivals.boundary import BoundaryPoints
from sif_offline.metav.rivals.conferrable import ConferrableExamples
from sif_offline.metav.rivals.correlation import SampleCorrelation
from sif_offline.metav.rivals.forging import Forged
from sif_offline.metav.tasks import TaskData
from sif_offline.metav.tasks.classification import Classification
from sif_offline.metav.zoo import Zoo, ZooError
from tests.metav.conftest import SIZE

COUNT = 30
VIEWS = ("full", "rounded-1", "label")
QUICK: dict[str, Rival] = {
    "ipguard": BoundaryPoints(margin=1.0, steps=150, rate=0.01),
    "conferrable": ConferrableExamples(epsilon=0.3, weight=0.1, steps=60, sampled=4),
    "sac": SampleCorrelation("misclassified"),
}


@pytest.fixture(scope="module")
def forged(zoo: Zoo) -> dict[str, Forged]:
    return {
        name: forge_rival([rival], zoo, count=COUNT, seed=0, views=VIEWS) for name, rival in QUICK.items()
    }


def labels(zoo: Zoo, names: list[str], queries: np.ndarray) -> np.ndarray:
    return answers_of([zoo.model(zoo.named(name)) for name in names], queries).argmax(-1)


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_tells_thieves_of_known_kinds_from_strangers(name: str, zoo: Zoo, forged) -> None:
    """ROC-AUC .6 through every view, on models that it was not made with. Seeded: no matter of chance."""
    one = forged[name]
    assert one.queries.shape == (COUNT, 1, 8, 8)
    assert one.queries.dtype == np.float32
    assert 0 <= one.queries.min() < one.queries.max() <= 1
    rows = [*zoo.of("validation", "positive"), *zoo.of("calibration", "positive")]
    sides = [answers_of(zoo.models(side), one.queries) for side in (rows, zoo.of("calibration", "negative"))]
    for view in VIEWS:
        assert roc_auc(*(one.scores(side, view) for side in sides)) >= 0.6
        assert one.scores(one.owner_answers[None], view) == pytest.approx(1)


@pytest.mark.parametrize("name", RIVALS)
def test_the_same_seed_makes_the_same_queries_and_another_one_others(name: str, zoo: Zoo, forged) -> None:
    rival = SampleCorrelation("cutmix") if name == "sac" else replace(QUICK[name], steps=3)  # type: ignore[type-var]

    def made(seed: int) -> np.ndarray:
        return forge_rival([rival], zoo, count=5, seed=seed, views=("full",)).queries

    np.testing.assert_array_equal(made(1), made(1))
    assert not np.array_equal(made(1), made(2))


def test_a_p_is_the_rank_among_the_zoos_calibration_negatives(zoo: Zoo, forged: dict[str, Forged]) -> None:
    one = forged["ipguard"]
    (found,) = evaluate_rival(one, zoo, views=("label",))
    assert len(found.side(stolen=True)) == len(found.side(stolen=False)) == SIZE.test
    assert found.aruc.low < found.aruc.estimate < found.aruc.high
    rows = zoo.of("calibration", "negative")
    owner = labels(zoo, ["owner"], one.queries)
    shares = (labels(zoo, [row.name for row in rows], one.queries) == owner).mean(-1)
    suspect = found.suspects[0]
    share = (labels(zoo, [suspect.name], one.queries) == owner).mean()
    assert 1 / (1 + np.exp(-suspect.log_odds)) == pytest.approx(share, abs=1e-9)
    assert suspect.pvalue == (1 + (shares >= share).sum()) / (len(rows) + 1)


def test_boundary_points_lie_beyond_the_boundary_by_the_margin(zoo: Zoo) -> None:
    """The owner's two largest logits are the target's and, at least the margin below, the source's."""
    owner = zoo.model(zoo.owner).network
    inputs, _ = zoo.task.data().part("a")
    gaps = {}
    for margin in (0.0, 3.0):
        rival = BoundaryPoints(margin=margin, steps=300, rate=0.01)
        queries = forge_rival([rival], zoo, count=COUNT, seed=0, views=("label",)).queries
        first, second = owner(torch.from_numpy(queries)).topk(2).values.unbind(-1)
        gaps[margin] = (first - second).numpy()
    clean = owner(inputs).topk(2).values
    assert (gaps[0.0] >= 0).mean() > 0.9
    assert np.median(gaps[0.0]) < 0.2 * (clean[:, 0] - clean[:, 1]).median()
    assert (gaps[3.0] >= 3 - 1e-4).mean() > 0.8


def test_conferrable_examples_stay_near_inputs_and_divide_copies_from_others(zoo: Zoo, forged) -> None:
    queries = forged["conferrable"].queries
    inputs, _ = zoo.task.data().part("a")
    nearest = (torch.from_numpy(queries)[:, None] - inputs[None]).abs().amax((-3, -2, -1)).min(-1).values
    assert nearest.max() <= 0.3 + 1e-6
    names = {role: [row.name for row in zoo.of("train", role)] for role in ("positive", "negative")}  # type: ignore[arg-type]
    owner = labels(zoo, ["owner"], queries)
    stolen, others = ((labels(zoo, names[role], queries) == owner).mean() for role in names)
    assert stolen - others > 0.3


def test_misclassified_samples_are_those_that_owner_and_copies_get_wrong(zoo: Zoo, forged) -> None:
    data = zoo.task.data()
    queries = torch.from_numpy(forged["sac"].queries)
    rows = [int((data.test_inputs == query).flatten(1).all(1).nonzero()[0, 0]) for query in queries]
    assert len(set(rows)) == COUNT
    owner = zoo.model(zoo.owner)
    wrong = owner.answers(data.test_inputs).argmax(-1) != data.test_targets
    assert wrong[rows].float().mean() > 3 * wrong.float().mean()


def test_cutmix_puts_a_rectangle_of_one_picture_into_another(zoo: Zoo) -> None:
    shades = torch.arange(100.0)[:, None, None, None].expand(100, 1, 8, 8)

    class Shades:
        def data(self) -> TaskData:
            return TaskData(shades, torch.zeros(100), shades, torch.zeros(100))

    sources = SimpleNamespace(task=Shades())
    mixed = SampleCorrelation("cutmix").forge(sources, count=COUNT, seed=0)  # type: ignore[arg-type]
    put_in = []
    for query in mixed[:, 0]:
        values, counts = np.unique(query, return_counts=True)
        assert len(values) <= 2
        for value in values:
            rows, columns = np.nonzero(query == value)
            area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            if area == len(rows) < 64:
                put_in.append(area / 64)
        assert counts.sum() == 64
    assert len(put_in) > COUNT / 2
    assert max(put_in) - min(put_in) > 0.5


def test_the_correlation_of_labels_is_which_queries_share_one() -> None:
    rival = SampleCorrelation()
    owner = np.eye(3)[[0, 0, 1]]
    same_classes_renamed, all_one = np.eye(3)[[2, 2, 0]], np.eye(3)[[1, 1, 1]]
    found = rival.scores(np.stack([owner, same_classes_renamed, all_one]), owner)
    np.testing.assert_allclose(found, [1, 1, 1 - 4 / 9])
    assert np.isfinite(rival.scores(np.zeros((1, 3, 3)), owner)).all()


@dataclass(frozen=True)
class Fixed:
    """Asks the same picture ever again, or test inputs."""

    informative: bool

    @property
    def settings(self) -> dict:
        return {}

    def forge(self, sources: Sources, *, count: int, seed: int) -> np.ndarray:
        inputs = sources.task.data().test_inputs.numpy()
        return inputs[:count] if self.informative else np.zeros_like(inputs[:count])

    def scores(self, outputs: np.ndarray, owner: np.ndarray) -> np.ndarray:
        if not self.informative:
            return np.full(len(outputs), 0.5)
        return label_agreement(outputs, owner)


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_the_candidate_that_divides_the_validation_models_best_is_kept(zoo: Zoo, order) -> None:
    candidates = [Fixed(informative) for informative in order]
    kept = forge_rival(candidates, zoo, count=200, seed=0, views=("label",))
    assert kept.rival == Fixed(True)


def test_what_no_rival_can_do_is_refused(zoo: Zoo, forged: dict[str, Forged]) -> None:
    with pytest.raises(RivalError, match="not one of ipguard, conferrable, sac"):
        make_rival("watermark")

    class Values(Classification):
        @property
        def output(self) -> Output:
            return Output(kind="values", size=10)

    assert isinstance(zoo.task, Classification)
    values = replace(zoo, task=Values(**vars(zoo.task)))
    with pytest.raises(RivalError, match="probabilities"):
        forge_rival([Fixed(True)], values, count=2, seed=0, views=("full",))

    def without(split: str) -> Zoo:
        members = tuple(row for row in zoo.members if row.split != split)
        return replace(zoo, manifest=zoo.manifest.model_copy(update={"members": members}))

    with pytest.raises(RivalError, match="validation"):
        forge_rival([Fixed(True)], without("validation"), count=2, seed=0, views=("full",))
    with pytest.raises(RivalError, match="calibration"):
        evaluate_rival(forged["sac"], without("calibration"), views=("full",))
    with pytest.raises(ZooError, match="lacks test models of one kind or of both"):
        evaluate_rival(forged["sac"], without("test"), views=("full",))


def test_rivals_are_judged_through_the_view(zoo: Zoo, forged: dict[str, Forged]) -> None:
    """Of one decimal and of labels alone, the owner's side too: the same answers score 1."""
    one = forged["sac"]
    answers = answers_of([zoo.model(zoo.owner)], one.queries)
    label = seen_through(answers, "label").astype(np.float32)
    assert one.scores(label, "label") == pytest.approx(1)
    assert one.scores(label, "full") < 1
