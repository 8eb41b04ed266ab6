"""Queries and verifier are trained together, on models that stay as they are.

The loss over queries X and verifier V is that of the paper: ``-log V(F(X)) - mean_P log V(f(X)) - mean_Q
log (1 - V(g(X)))`` over the owner F, its copies P and the unrelated models Q. What is kept is the state that
does best on the models of the validation split, queries and verifier of one and the same step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from sif_offline.fingerprint.metav.pack import TensorInput
from sif_offline.fingerprint.metav.verifier import MetaVerifier
from sif_offline.fingerprint.metav.views import seen_through
from sif_offline.metav.ensemble import Ensemble
from sif_offline.metav.queries import Queries, first_queries
from sif_offline.metav.settings import MetaVSettings
from sif_offline.metav.transport import transported
from sif_offline.metav.verifier import Sides, TrainedVerifier
from sif_offline.metav.zoo import Zoo, ZooError, ZooModel
from sif_offline.metav.zoo.disguise import straight_through
from sif_offline.metav.zoo.plan import Split


@dataclass(frozen=True)
class TrainProgress:
    """How far a training is.

    Attributes:
        step, steps: done and at most.
        loss: of the step, nats.
        best: least validation loss so far, nats.
    """

    step: int
    steps: int
    loss: float
    best: float


@dataclass(frozen=True)
class Trained:
    """What a training kept.

    Attributes:
        queries: float32 ``(N, *shape)``: the very bytes that are sent.
        verifier: of the same step.
        step: which one.
        validation_loss: there, nats.
        steps: that were run.
        models: that were trained on, checkpoints among them.
    """

    queries: NDArray[np.float32]
    verifier: MetaVerifier
    step: int
    validation_loss: float
    steps: int
    models: int


@dataclass
class Training:
    """A training on its way: all that decides how it goes on.

    Attributes:
        generator: of every draw after the start.
        step: steps done.
        stale: looks at the validation models since ``best``.
        best: what is kept if nothing better comes.
    """

    queries: Queries
    verifier: TrainedVerifier
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    step: int
    stale: int
    best: Trained


class Keeper(Protocol):
    """Keeps trainings where a kill does not reach; :mod:`sif_offline.metav.keeping` has one."""

    def restore(self, training: Training) -> None:
        """Put what is kept, if anything is, into a training that was just begun."""
        ...

    def keep(self, training: Training) -> None:
        """Called after each look at the validation models."""
        ...


def train_metav(
    zoo: Zoo,
    settings: MetaVSettings,
    *,
    device: str = "cpu",
    keeper: Keeper | None = None,
    on_progress: Callable[[TrainProgress], None] = lambda _progress: None,
) -> Trained:
    """Train queries and verifier on the zoo's split ``train``, chosen on ``validation``.

    What a verifier begins with (:meth:`TrainedVerifier.begin`) is taken through the first of the views.

    Args:
        zoo: with models in both splits; no other split is read.
        settings: of the training.
        device: where.
        keeper: of the same zoo, settings and device; with it a training that was stopped goes on, and ends in
            what it would have ended in.
        on_progress: called after every step.

    Raises:
        ZooError: a model of the zoo is damaged or missing, or one of the two splits is empty.
        MetaVSettingsError: a view or a start that the task's outputs do not have.
    """
    task = zoo.task
    settings = settings.for_outputs(task.output.kind)
    owner = [zoo.model(zoo.owner)]
    fitted, chosen = (_Models.of(zoo, split, settings, owner, device) for split in ("train", "validation"))
    first = first_queries(owner[0], count=settings.queries, start=settings.start, seed=settings.seed)
    queries = Queries(first, limits=task.input, reach=settings.reach).to(device)
    verifier = TrainedVerifier(
        queries=settings.queries,
        size=task.output.size,
        form=settings.form,
        hidden=settings.widths,
        activation=settings.activation,
        transform=settings.transform,
        seed=settings.seed,
    ).to(device)
    with torch.no_grad():
        verifier.begin(*(models.sides(queries(), settings.views[0]) for models in (fitted, chosen)))
    optimiser = torch.optim.AdamW(
        [
            {"params": list(queries.parameters()), "lr": settings.query_rate, "weight_decay": 0.0},
            {"params": list(verifier.parameters()), "lr": settings.verifier_rate},
        ],
        weight_decay=settings.weight_decay,
    )
    generator = torch.Generator().manual_seed(settings.seed)

    def look(step: int) -> Trained:
        with torch.no_grad():
            asked = queries()
            answers = chosen.ensemble.answers(asked)
            losses = [chosen.loss(verifier, _seen(answers, view)) for view in settings.views]
        kept = asked.cpu().numpy().astype(np.float32)
        found = float(torch.stack(losses).mean())
        return Trained(kept, verifier.export(), step, found, step, fitted.ensemble.size)

    now = Training(queries, verifier, optimiser, generator, step=0, stale=0, best=look(0))
    if keeper is not None:
        keeper.restore(now)
    while now.step < settings.steps and now.stale < settings.patience:
        picked = fitted.draw(settings.sampled, generator)
        asked = _drawn(queries(), settings.transport, task.input, generator)
        view = settings.views[now.step % len(settings.views)]
        loss = fitted.loss(verifier, _seen(fitted.ensemble.answers(asked, picked), view), picked)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        now.step += 1
        if now.step % settings.check_every == 0 or now.step == settings.steps:
            found = look(now.step)
            now.stale += 1
            if found.validation_loss < now.best.validation_loss:
                now.best, now.stale = found, 0
            if keeper is not None:
                keeper.keep(now)
        on_progress(TrainProgress(now.step, settings.steps, float(loss.detach()), now.best.validation_loss))
    return replace(now.best, steps=now.step)


@dataclass(frozen=True)
class _Models:
    """The owner, its copies and unrelated models, in this order, as one ensemble."""

    ensemble: Ensemble
    positives: int
    negatives: int

    @classmethod
    def of(
        cls, zoo: Zoo, split: Split, settings: MetaVSettings, owner: Sequence[ZooModel], device: str
    ) -> "_Models":
        positives = zoo.models(zoo.of(split, "positive"), checkpoints=settings.checkpoints)
        negatives = zoo.models(zoo.of(split, "negative"), checkpoints=settings.checkpoints)
        if not positives or not negatives:
            raise ZooError(f"{zoo.folder}: the split {split} needs models of both kinds")
        ensemble = Ensemble([*owner, *positives, *negatives], device=device)
        return cls(ensemble, len(positives), len(negatives))

    def sides(self, asked: Tensor, view: str) -> Sides:
        """What all of them answer to ``(N, *shape)``, through a view."""
        answers = _seen(self.ensemble.answers(asked), view)
        return Sides(answers[: 1 + self.positives], answers[1 + self.positives :])

    def draw(self, sampled: int, generator: torch.Generator) -> Tensor | None:
        """Places of the owner and of so many models a side, ascending; None = all."""
        if not sampled:
            return None
        positives = torch.randperm(self.positives, generator=generator)[:sampled]
        negatives = torch.randperm(self.negatives, generator=generator)[:sampled]
        places = torch.cat([torch.tensor([0]), 1 + positives, 1 + self.positives + negatives])
        return places.sort().values

    def loss(self, verifier: TrainedVerifier, outputs: Tensor, picked: Tensor | None = None) -> Tensor:
        """The paper's, nats."""
        log_odds = verifier(outputs)
        positives = self.positives if picked is None else int((picked <= self.positives).sum()) - 1
        owner, copies, others = log_odds.split([1, positives, len(log_odds) - 1 - positives])
        found: Tensor = softplus(-owner).mean() + softplus(-copies).mean() + softplus(others).mean()
        return found


def _drawn(queries: Tensor, ways: Sequence[str], limits: TensorInput, generator: torch.Generator) -> Tensor:
    """Queries as they arrive: by one of these ways, or untouched."""
    if not ways:
        return queries
    place = int(torch.randint(len(ways) + 1, (), generator=generator))
    return queries if place == len(ways) else transported(queries, ways[place], limits, generator)


def _seen(outputs: Tensor, view: str) -> Tensor:
    """Outputs through a view, with the gradient of the outputs themselves."""
    if view == "full":
        return outputs
    seen = seen_through(outputs.detach().cpu().numpy(), view)
    return straight_through(outputs, torch.from_numpy(seen).to(outputs))
