"""Build a zoo: every model is made once, wherever the work runs, and a run that was stopped goes on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sif_offline.executors import Done, Event, Executor, Lost
from sif_offline.executors.local import LocalExecutor
from sif_offline.metav.tasks.base import Task
from sif_offline.metav.zoo.making import make_model
from sif_offline.metav.zoo.model import ZooModel
from sif_offline.metav.zoo.plan import Member
from sif_offline.metav.zoo.recipe import Recipe
from sif_offline.metav.zoo.store import (
    Manifest,
    MemberRow,
    Zoo,
    load_model,
    model_file,
    read_manifest,
    save_model,
    write_manifest,
)


@dataclass(frozen=True)
class ZooProgress:
    """How far a build is.

    Attributes:
        finished, total: models.
        member: the last one that was made; None at the start.
        lost: what became of a worker that died, else None.
    """

    finished: int
    total: int
    member: str | None = None
    lost: str | None = None


def build_zoo(
    task: Task,
    members: Sequence[Member],
    *,
    folder: str | Path,
    seed: int = 0,
    executor: Executor | None = None,
    on_progress: Callable[[ZooProgress], None] = lambda _progress: None,
) -> Zoo:
    """Make what is missing of a plan.

    Models that are in ``folder`` under the digest of their recipe are not made again, whoever made them;
    files that the plan does not name are left alone.

    Args:
        task: of all members.
        members: of :func:`~sif_offline.metav.zoo.plan.plan_zoo`; whatever one is stolen from is a member.
        folder: of the zoo; made where it is missing.
        seed: of the plan, for the record.
        executor: where the models are made; this process unless given.
        on_progress: called in this thread.

    Raises:
        ZooError: the folder cannot be written, or a file in it is damaged.
        ExecutorError: workers cannot be started, or die over and over.
    """
    folder = Path(folder)
    old = read_manifest(folder)
    rows: dict[str, MemberRow] = {}
    known = {row.file: row for row in old.members} if old else {}
    work = _Work(task, folder)

    def take(member: Member, made: "_Made") -> None:
        rows[member.name] = MemberRow(
            **member.model_dump(), file=model_file(member.recipe), quality=made.quality, seconds=made.seconds
        )

    def write(*, complete: bool) -> Manifest:
        found = tuple(rows[member.name] for member in members if member.name in rows)
        manifest = Manifest(task=task.name, seed=seed, complete=complete, members=found)
        write_manifest(folder, manifest)
        return manifest

    missing = []
    for member in members:
        file = model_file(member.recipe)
        if not (folder / file).is_file():
            missing.append(member)
        elif file in known:
            take(member, _Made(known[file].quality, known[file].seconds))
        else:
            take(member, _Made(load_model(folder / file, task=task).quality(), 0.0))
    on_progress(ZooProgress(len(rows), len(members)))
    write(complete=not missing)
    # what others are stolen from comes first, in this process
    parents = {m.recipe.parent.key for m in missing if m.recipe.parent is not None}
    first = [member for member in missing if member.recipe.key in parents]
    rest = [member for member in missing if member.recipe.key not in parents]
    for batch, where in ((first, LocalExecutor()), (rest, executor or LocalExecutor())):

        def note(event: Event, batch: list[Member] = batch) -> None:
            if isinstance(event, Done):
                member = batch[event.task]
                take(member, event.result)
                write(complete=False)
                on_progress(ZooProgress(len(rows), len(members), member=member.name))
            elif isinstance(event, Lost):
                lost = f"{event.worker} {event.reason} over {batch[event.task].name}, which is made again"
                on_progress(ZooProgress(len(rows), len(members), lost=lost))

        where.run(work, [member.recipe for member in batch], on_event=note)
    return Zoo(folder, task, write(complete=True))


@dataclass(frozen=True)
class _Made:
    quality: float
    seconds: float


@dataclass(frozen=True)
class _Work:
    """Makes models in whatever process it is opened."""

    task: Task
    folder: Path

    def open(self, device: str) -> Callable[[Recipe, Callable[[Any], None]], _Made]:
        """See :class:`~sif_offline.executors.Work`."""
        parents: dict[str, ZooModel] = {}

        def run(recipe: Recipe, _note: Callable[[Any], None]) -> _Made:
            start = time.process_time()
            parent = None
            if recipe.parent is not None:
                if recipe.parent.key not in parents:
                    parents[recipe.parent.key] = load_model(
                        self.folder / model_file(recipe.parent), task=self.task
                    )
                parent = parents[recipe.parent.key]
            model, states = make_model(self.task, recipe, parent=parent, device=device)
            save_model(self.folder / model_file(recipe), model, states)
            return _Made(model.quality(), time.process_time() - start)

        return run
