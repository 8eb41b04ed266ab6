"""One row of the tables: a method on a zoo, scored on the zoo's suspects."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.special import softmax

from benchmarks.metav.making import VIEWS, Made, Maker, Row
from benchmarks.red_team.keeping import Kept, digest
from sif_offline.fingerprint.metav.pack import MetaVPack
from sif_offline.fingerprint.metav.scoring import MetaVScorer
from sif_offline.metav.evaluation import Evaluation, evaluate_metav
from sif_offline.metav.packing import answers_of, pack_metav, queries_of
from sif_offline.metav.rivals import Forged, evaluate_rival
from sif_offline.metav.train import Trained
from sif_offline.metav.zoo import Zoo
from sif_offline.metav.zoo.plan import Split

TEMPERATURES = (0.5, 1, 1.5, 2, 3)
_SPLITS: tuple[Split, ...] = ("train", "calibration", "test")


@dataclass(frozen=True)
class Bench:
    """Where rows are measured and kept.

    Attributes:
        maker: of the fingerprints.
        rows: the finished ones.
        alpha: p at which a suspect counts as found.
    """

    maker: Maker
    rows: Kept
    alpha: float = 0.05

    def measured(self, method: str, zoo: Zoo) -> Row:
        """The row of a method on a zoo, from disk where it is there.

        ``views`` has a row a view, ``seconds`` the processor time of training or forging, ``right`` how often
        MetaV's verifier is right about the models of a split, ``tempered`` what MetaV says of suspects whose
        softmax has another temperature (:func:`_tempered`).
        """
        made = self.maker.made(method, zoo)
        job = digest(made.job, [row.recipe.key for row in zoo.members], self.alpha)
        row = self.rows.get(job)
        if row is None:
            views, more = self._scored(method, made, zoo)
            row = {
                "job": job,
                "method": method,
                "task": zoo.task.name,
                "seed": zoo.manifest.seed,
                "size": sum(row.split == "train" and row.role != "owner" for row in zoo.members),
                "seconds": made.seconds,
                **made.said,
                **more,
                "views": [_view(one) for one in views],
            }
            self.rows.add(row)
        return row

    def _scored(self, method: str, made: Made, zoo: Zoo) -> tuple[Sequence[Evaluation], Row]:
        if isinstance(made.content, Forged):
            return evaluate_rival(made.content, zoo, views=VIEWS, alpha=self.alpha), {}
        with TemporaryDirectory() as folder:
            settings = self.maker.settings(method)
            path = Path(folder) / "pack.zip"
            pack = pack_metav(path, zoo, made.content, settings, created=datetime.now(UTC))
            views = evaluate_metav(pack, zoo, views=VIEWS, alpha=self.alpha)
            tempered = _tempered(pack, zoo, alpha=self.alpha)
        right = {split: _right(made.content, zoo, split) for split in _SPLITS}
        return views, {"right": right, "tempered": tempered}


def sub_zoo(zoo: Zoo, *, size: int) -> Zoo:
    """The zoo as if only ``size`` models had been made to train on, half of them stolen, and a quarter as
    many to choose the best state on.
    """
    kept = {"train": size // 2, "validation": max(1, size // 8)}
    counts: dict[tuple[str, str], int] = {}
    names = []
    for row in zoo.members:
        place = counts.get((row.split, row.role), 0)
        counts[row.split, row.role] = place + 1
        if row.role == "owner" or place < kept.get(row.split, place + 1):
            names.append(row.name)
    return zoo.among(names)


def _right(trained: Trained, zoo: Zoo, split: Split) -> float:
    """Mean over the two kinds of the share that the verifier is right about at one half, the full view."""
    sides = (zoo.of(split, "positive"), 1), (zoo.of(split, "negative"), -1)
    shares = [
        (sign * trained.verifier.log_odds(answers_of(zoo.models(rows), trained.queries)) > 0).mean()
        for rows, sign in sides
    ]
    return float(np.mean(shares))


def _tempered(pack: MetaVPack, zoo: Zoo, *, alpha: float) -> list[Row]:
    """Suspects whose softmax has another temperature, as honest models are calibrated and thieves may
    choose: how many of each side are found at ``alpha``, the full view.
    """
    scorer, rows = MetaVScorer(pack), []
    for temperature in TEMPERATURES:
        found = {"temperature": temperature}
        for role in ("positive", "negative"):
            answers = answers_of(zoo.models(zoo.of("test", role)), queries_of(pack)).astype(np.float64)
            logits = np.log(np.maximum(answers, np.finfo(np.float32).tiny))
            scores = [scorer.score(softmax(one / temperature, axis=-1)) for one in logits]
            found[role] = sum(score.pvalue <= alpha for score in scores)
        rows.append(found)
    return rows


def _view(evaluation: Evaluation) -> Row:
    return {
        "view": evaluation.view,
        **{
            name: list(getattr(evaluation, name))
            for name in ("true_positives", "true_negatives", "aruc", "roc_auc")
        },
        "suspects": [vars(suspect) for suspect in evaluation.suspects],
    }


def hits(rows: Sequence[Row], view: str, *, stolen: bool, alpha: float) -> tuple[int, int]:
    """Stolen suspects that were found, or unrelated ones that were not, and their number, over all rows."""
    suspects = [
        suspect
        for row in rows
        for found in row["views"]
        if found["view"] == view
        for suspect in found["suspects"]
        if suspect["stolen"] == stolen
    ]
    return sum((suspect["pvalue"] <= alpha) == stolen for suspect in suspects), len(suspects)
