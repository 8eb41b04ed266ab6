"""From outputs to an honest p and a verdict."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from probes.testing import tiny_metav
from sif_offline.fingerprint.metav.pack import HeldOutScores, MetaVPack
from sif_offline.fingerprint.metav.scoring import MetaVError, MetaVScore, MetaVScorer, metav_verdict

FALSE_ALARM = 1e-6
"""Of every statistical assertion here."""


def queries(pack: MetaVPack) -> np.ndarray:
    return np.stack(list(pack.inputs.values()))  # type: ignore[arg-type]


def with_negatives(pack: MetaVPack, negatives: list[float]) -> MetaVPack:
    other = pack.model_copy(update={"held_out": HeldOutScores(negatives={"full": tuple(negatives)})})
    other._files = pack._files
    return other


def test_stolen_models_are_found_and_unrelated_ones_are_not(tiny: MetaVPack) -> None:
    for view in tiny_metav.VIEWS:
        scorer = MetaVScorer(tiny, view=view)
        assert scorer.score(tiny_metav.owner(queries(tiny))).pvalue == 0.01
        assert all(scorer.score(tiny_metav.stolen(n)(queries(tiny))).pvalue == 0.01 for n in range(20))
        unrelated = [scorer.score(tiny_metav.unrelated(n)(queries(tiny))).pvalue for n in range(50)]
        assert np.median(unrelated) > 0.2


def test_p_is_the_rank_among_the_negatives(tiny: MetaVPack) -> None:
    outputs = tiny_metav.unrelated(1)(queries(tiny))
    found = MetaVScorer(tiny).score(outputs).log_odds
    for negatives, p in (
        ([found - 1, found - 2, found - 3], Fraction(1, 4)),
        ([found + 1, found - 2, found - 3], Fraction(2, 4)),
        ([found, found - 2, found - 3], Fraction(2, 4)),  # a tie speaks for the target
        ([found + 1, found + 2, found + 3], Fraction(4, 4)),
    ):
        score = MetaVScorer(with_negatives(tiny, negatives)).score(outputs)
        assert (score.pvalue, score.floor, score.negatives) == (float(p), 1 / 4, 3)


def test_p_is_super_uniform_for_a_model_of_the_negatives_kind(tiny: MetaVPack) -> None:
    """Over fresh negatives and suspects, not over suspects alone: a set of negatives may be unlucky.

    4,000 draws; P(p <= a) <= a is refused where the binomial says 1e-6.
    """
    runs, n = 4000, 19
    answers = np.stack([tiny_metav.unrelated(seed)(queries(tiny)) for seed in range(2000)])
    scores = np.asarray(tiny.meta_verifier.log_odds(answers))
    rng = np.random.default_rng(5)
    pvalues = []
    for _ in range(runs):
        drawn = rng.choice(len(scores), size=n + 1, replace=False)
        negatives = scores[drawn[1:]]
        pvalues.append((1 + int((negatives >= scores[drawn[0]]).sum())) / (n + 1))
    for alpha in (0.05, 0.1, 0.25, 0.5):
        hits = sum(p <= alpha for p in pvalues)
        assert hits <= binom.isf(FALSE_ALARM, runs, alpha)
    # the scorer is what was drawn above
    scorer = MetaVScorer(with_negatives(tiny, scores[1:20].tolist()))
    assert scorer.score(answers[0]).pvalue == (1 + int((scores[1:20] >= scores[0]).sum())) / 20


@pytest.mark.parametrize(
    ("pvalue", "negatives", "alpha", "verdict"),
    [
        (0.05, 19, 0.05, "confirmed"),
        (0.05, 19, 0.049, "suspicious"),  # no 19 negatives can support it
        (0.05, 19, None, "suspicious"),
        (0.1, 19, 0.1, "confirmed"),
        (0.1, 19, 0.05, "none"),
        (0.1, 19, None, "none"),
        (0.001, 999, 0.001, "confirmed"),
        (0.002, 999, 0.001, "suspicious"),
        (0.001, 999, 1e-6, "suspicious"),
        (1.0, 19, 0.5, "none"),
    ],
)
def test_confirmed_only_where_so_many_negatives_can_say_so(
    pvalue: float, negatives: int, alpha: float | None, verdict: str
) -> None:
    assert metav_verdict(MetaVScore(3.0, pvalue, negatives), alpha=alpha) == verdict


def test_outputs_that_cannot_be_scored_are_refused(tiny: MetaVPack) -> None:
    scorer, good = MetaVScorer(tiny), tiny_metav.owner(queries(tiny))
    for bad in (good[:-1], good[:, :-1], good[None], good.T, np.zeros(0)):
        with pytest.raises(MetaVError, match="24 x 5 finite numbers"):
            scorer.score(bad)
    for value in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[3, 2] = value
        with pytest.raises(MetaVError, match="finite"):
            scorer.score(bad)
    for value in (-0.1, 1.1, 1e300):  # logits, percentages
        bad = good.copy()
        bad[3, 2] = value
        with pytest.raises(MetaVError, match="probabilities"):
            scorer.score(bad)
    slightly = good.copy()
    slightly[0] = [1 + 1e-7, -1e-8, 0, 0, 0]
    scorer.score(slightly)


def test_values_so_large_that_nothing_ranks_above_them_are_refused(text_path) -> None:
    from sif_offline.fingerprint.metav.pack import read_metav_pack

    pack = read_metav_pack(text_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in (1e308, 1e200, 1e9):
            wild = size * np.asarray(tiny_metav.owner(list(pack.inputs.values())))
            with pytest.raises(MetaVError, match="too large"):
                MetaVScorer(pack).score(wild)


@pytest.mark.parametrize("view", ["full", "label"])
def test_one_answer_to_everything_accuses_nobody(tiny: MetaVPack, view: str) -> None:
    """A broken endpoint is none of the models that p ranks it among; a fifth of such labels ranked high."""
    scorer, rng = MetaVScorer(tiny, view=view), np.random.default_rng(6)
    for _ in range(50):
        same = np.tile(rng.dirichlet(np.ones(5)), (24, 1))
        assert scorer.score(same).pvalue == 1
    owner = tiny_metav.owner(queries(tiny))
    same[:20] = owner[:20]
    assert scorer.score(same).pvalue < 1


def test_a_view_without_negatives_is_refused(tiny: MetaVPack) -> None:
    with pytest.raises(MetaVError, match="only full, label, rounded-2, top-3"):
        MetaVScorer(tiny, view="rounded-1")
