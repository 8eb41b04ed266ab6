"""A pack against suspects that nothing was fitted to, through each view of their outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.metav.pack import MetaVPack
from sif_offline.fingerprint.metav.scoring import MetaVScorer
from sif_offline.fingerprint.metav.views import seen_through
from sif_offline.metav.metrics import Interval, aruc, bootstrap, roc_auc, share
from sif_offline.metav.packing import MetaVPackingError, answers_of, queries_of
from sif_offline.metav.zoo import Zoo, ZooError
from sif_offline.metav.zoo.store import MemberRow


@dataclass(frozen=True)
class Suspect:
    """A model of the split ``test`` and what it scored.

    Attributes:
        stolen: what it really is.
        kind: the attack, or ``train``.
        quality: of its network on the task's test data.
        log_odds: of the verifier.
        pvalue: conformal.
    """

    name: str
    stolen: bool
    kind: str
    architecture: str
    quality: float
    log_odds: float
    pvalue: float

    @classmethod
    def of(cls, row: MemberRow, *, log_odds: float, pvalue: float) -> Self:
        """A member of the zoo with its scores."""
        return cls(
            name=row.name,
            stolen=row.role == "positive",
            kind=row.recipe.kind,
            architecture=row.recipe.architecture,
            quality=row.quality,
            log_odds=log_odds,
            pvalue=pvalue,
        )


@dataclass(frozen=True)
class Evaluation:
    """Suspects through one view.

    Attributes:
        alpha: p at which a suspect counts as found.
    """

    view: str
    alpha: float
    suspects: tuple[Suspect, ...]

    def side(self, *, stolen: bool) -> list[Suspect]:
        """The stolen ones, or the unrelated ones."""
        return [suspect for suspect in self.suspects if suspect.stolen == stolen]

    def kinds(self) -> dict[str, list[Suspect]]:
        """The stolen ones by attack."""
        found: dict[str, list[Suspect]] = {}
        for suspect in self.side(stolen=True):
            found.setdefault(suspect.kind, []).append(suspect)
        return dict(sorted(found.items()))

    @property
    def true_positives(self) -> Interval:
        """Share of the stolen with p <= alpha."""
        return self._share(stolen=True, hit=lambda suspect: suspect.pvalue <= self.alpha)

    @property
    def true_negatives(self) -> Interval:
        """Share of the unrelated with p > alpha."""
        return self._share(stolen=False, hit=lambda suspect: suspect.pvalue > self.alpha)

    @property
    def verifier_true_positives(self) -> Interval:
        """Share of the stolen that the verifier gives more than one half: the paper's verdict."""
        return self._share(stolen=True, hit=lambda suspect: suspect.log_odds > 0)

    @property
    def verifier_true_negatives(self) -> Interval:
        """Share of the unrelated that it does not."""
        return self._share(stolen=False, hit=lambda suspect: suspect.log_odds <= 0)

    @cached_property
    def aruc(self) -> Interval:
        """Of the verifier's probabilities."""
        return bootstrap(aruc, *(_probabilities(scores) for scores in self._scores))

    @cached_property
    def roc_auc(self) -> Interval:
        """Of the log-odds."""
        return bootstrap(roc_auc, *self._scores)

    @property
    def _scores(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        stolen, unrelated = (
            np.array([suspect.log_odds for suspect in self.side(stolen=side)]) for side in (True, False)
        )
        return stolen, unrelated

    def _share(self, *, stolen: bool, hit: Callable[[Suspect], bool]) -> Interval:
        side = self.side(stolen=stolen)
        return share(sum(map(hit, side)), len(side))


def suspects_of(zoo: Zoo) -> tuple[MemberRow, ...]:
    """The split ``test``, positives first. Raises ``ZooError``: it has not both kinds of models."""
    stolen, unrelated = zoo.of("test", "positive"), zoo.of("test", "negative")
    if not (stolen and unrelated):
        raise ZooError(f"{zoo.folder}: lacks test models of one kind or of both")
    return stolen + unrelated


def evaluate_metav(
    pack: MetaVPack, zoo: Zoo, *, views: Sequence[str] | None = None, alpha: float = 0.05
) -> tuple[Evaluation, ...]:
    """Score the split ``test`` of a zoo, with numpy as a probe host would.

    Args:
        pack: with its files.
        zoo: that the pack's owner comes from.
        views: all that the pack has scores for unless given.
        alpha: p at which a suspect counts as found.

    Raises:
        MetaVPackingError: the zoo is another owner's.
        ZooError: it has no test models of both kinds, or one is damaged or missing.
        MetaVError: the pack has no negatives through a view.
    """
    if zoo.owner.recipe.key != pack.owner.revision:
        raise MetaVPackingError(f"pack {pack.pack_id}: its owner is not the one of the zoo {zoo.folder}")
    rows = suspects_of(zoo)
    answers = answers_of(zoo.models(rows), queries_of(pack))
    found = []
    for view in views or pack.held_out.negatives:
        scorer = MetaVScorer(pack, view=view)
        scores = [scorer.score(seen_through(answer, view)) for answer in answers]
        suspects = tuple(
            Suspect.of(row, log_odds=score.log_odds, pvalue=score.pvalue)
            for row, score in zip(rows, scores, strict=True)
        )
        found.append(Evaluation(view, alpha, suspects))
    return tuple(found)


def _probabilities(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -log_odds))
