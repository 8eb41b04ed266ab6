"""Photos to a pack: units forged wherever an executor puts them, and work that survives a kill."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sif_offline.executors import Done, Event, Executor, Lost, Noted, Started
from sif_offline.executors.local import LocalExecutor
from sif_offline.fingerprint.keys import MasterSecret
from sif_offline.fingerprint.pack import FingerprintPack, read_pack
from sif_offline.forging.keeping import kept as kept_rows
from sif_offline.forging.packing import CONTACT_SHEET, write_forged
from sif_offline.forging.pixels import Photo
from sif_offline.forging.plan import Job, Unit, describe_run, plan_jobs, plan_units
from sif_offline.forging.settings import ForgeSettings, SettingsError
from sif_offline.forging.speed import Speed
from sif_offline.forging.work import ForgeWork, Note
from sif_offline.forging.workdir import Finished, ForgeError, WorkDir, job_digest, kept_notes, open_workdir
from sif_offline.models.base import VLMAdapter

__all__ = [
    "CONTACT_SHEET",
    "Goal",
    "Progress",
    "check_out",
    "forge_pack",
    "planned_batch_size",
]

_BATCH_SIZE = "batch_size"


@dataclass(frozen=True)
class Progress:
    """Triggers finished of how many; the unit that this is about and its step, None between units.

    ``lost`` says how a worker died whose unit is now forged again by another; empty otherwise.
    """

    finished: int
    total: int
    step: Note | None
    batch: tuple[str, ...]
    lost: str = ""


class Goal(Protocol):
    """What may end a run before the photos do."""

    def description(self) -> dict[str, Any]:
        """Everything that decides when it is reached, JSON values: part of what makes a run this run."""
        ...

    def enough(self, rows: Sequence[tuple[Job, Finished]]) -> bool:
        """Asked after every unit, in the order of the plan, with all triggers so far."""
        ...

    def report(self) -> dict[str, Any]:
        """What was found when last asked, JSON values; kept in the pack."""
        ...


def forge_pack(
    adapter: VLMAdapter,
    *,
    photos: Sequence[Photo],
    secret: MasterSecret,
    settings: ForgeSettings,
    out: Path,
    executor: Executor | None = None,
    speed: Speed | None = None,
    goal: Goal | None = None,
    keep: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> FingerprintPack:
    """Forge one trigger a photo and write the pack.

    The same photos, model, secret and settings give the same triggers on the same machine, torch and number
    of threads, whatever the executor: ``settings.batch_size`` triggers of one prompt are a unit, forged
    together wherever that is. Finished units are kept beside ``out`` until the pack is whole, so that a run
    that was killed goes on where it stopped; a run that had already finished is recognised and its pack
    returned.

    Args:
        adapter: the owner.
        photos: cut to the adapter's canvas, at least one.
        secret: the master secret; neither it nor a trigger key is written or leaves this process.
        settings: of the run.
        out: directory of the pack; must not exist, be empty, or be this very run's.
        executor: who forges; this process by default.
        speed: compilation and checkpointing.
        goal: ends the run once it is reached; the pack then holds the triggers of the units up to there.
        keep: how many of the triggers the pack holds, the best ones (:mod:`sif_offline.forging.keeping`);
            all without it. Not together with a goal.
        on_progress: called after every step, every finished unit and every worker that died.

    Raises:
        SettingsError: more to keep than photos, or a goal besides.
        ForgeError: ``out`` or the work directory is taken.
        TeacherError: the owner is silent about a photo.
        ExecutorError: workers cannot be started, or die over and over.
        PackError: the pack cannot be written.
    """
    if keep is not None and goal is not None:
        raise SettingsError("a run with a goal keeps what it forges")
    if keep is not None and not 1 <= keep <= len(photos):
        raise SettingsError(f"{keep} triggers cannot be kept of {len(photos)}")
    speed = speed or Speed()
    jobs = plan_jobs(adapter, photos=photos, secret=secret, settings=settings)
    digest = job_digest(
        describe_run(adapter, jobs, settings)
        | ({"compiled": True} if speed.compiled else {})
        | ({"goal": goal.description()} if goal else {})
        | ({"keep": keep} if keep is not None else {})
    )
    if (done := _already_forged(out, digest)) is not None:
        return done
    work = ForgeWork(
        model=adapter.name,
        weights_sha256=adapter.weights_sha256,
        settings=settings,
        speed=speed,
        adapter=adapter,
    )
    with open_workdir(out, digest=digest, notes={_BATCH_SIZE: settings.batch_size}) as kept:
        run = _Run(jobs, settings, kept, goal, on_progress)
        run.forge(executor or LocalExecutor(str(adapter.device)), work)
        rows = run.rows()
        return write_forged(
            out,
            adapter,
            rows if keep is None else kept_rows(rows, keep=keep),
            settings=settings,
            digest=digest,
            demo_key=secret.is_demo,
            extensions=({"goal": goal.report()} if goal else {})
            | ({"forged": len(rows)} if keep is not None else {}),
        )


def check_out(out: Path) -> None:
    """Refuse an output that is taken, before any work is done.

    Raises:
        ForgeError: ``out`` is a file, or a directory that holds something other than a pack.
    """
    if out.suffix == ".zip" or (out.exists() and not out.is_dir()):
        raise ForgeError(f"{out}: a pack is forged into a directory")
    if out.is_dir() and any(out.iterdir()) and not (out / "pack.json").is_file():
        raise ForgeError(f"{out}: not empty, and not a pack")


def planned_batch_size(out: Path) -> int | None:
    """Batch size of the run that is unfinished or finished at ``out``; None where there is none."""
    if (out / "pack.json").is_file():
        size = read_pack(out).forge.get(_BATCH_SIZE)
    else:
        size = kept_notes(out).get(_BATCH_SIZE)
    return size if isinstance(size, int) and size > 0 else None


def _already_forged(out: Path, digest: str) -> FingerprintPack | None:
    check_out(out)
    if not (out / "pack.json").is_file():
        return None
    pack = read_pack(out)
    if pack.extensions.get("forge_job") != digest:
        raise ForgeError(f"{out}: holds a pack of another run (other photos, model, key or settings)")
    return pack


class _Run:
    """Which units are finished, and which of them the pack will hold."""

    def __init__(
        self,
        jobs: Sequence[Job],
        settings: ForgeSettings,
        kept: WorkDir,
        goal: Goal | None,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.jobs = jobs
        self.units = plan_units(jobs, size=settings.batch_size)
        self.kept = kept
        self.goal = goal
        self.on_progress = on_progress
        self.finished = kept.finished()
        self.accepted = 0  # units that the goal has seen, from the first
        self.enough = False

    def forge(self, executor: Executor, work: ForgeWork) -> None:
        self._ask_goal()
        if self.enough:
            return
        missing = [unit for unit in self.units if unit[0].trigger_id not in self.finished]
        if not missing:
            return
        self._tell()
        executor.run(
            work,
            missing,
            on_event=lambda event: self._take(event, missing),
            stop=lambda: self.enough,
        )

    def rows(self) -> list[tuple[Job, Finished]]:
        """In the order of the photos."""
        units = self.units[: self.accepted] if self.goal else self.units
        wanted = {job.trigger_id for unit in units for job in unit}
        return [(job, self.finished[job.trigger_id]) for job in self.jobs if job.trigger_id in wanted]

    def _take(self, event: Event, missing: Sequence[Unit]) -> None:
        unit = missing[event.task]
        names = tuple(job.trigger_id for job in unit)
        match event:
            case Noted(note=step):
                self._tell(names, step=step)
            case Lost(worker=worker, reason=reason):
                self._tell(names, lost=f"{worker} {reason}; {names[0]} to {names[-1]} begin again")
            case Done(result=result):
                self.kept.add(result)
                self.finished |= {done.trigger_id: done for done in result}
                self._tell(names)
                self._ask_goal()
            case Started():
                pass

    def _ask_goal(self) -> None:
        """In the order of the plan, so that workers who hurry ahead change nothing."""
        while self.goal and not self.enough and self.accepted < len(self.units):
            if self.units[self.accepted][0].trigger_id not in self.finished:
                return
            self.accepted += 1
            self.enough = self.goal.enough(self.rows())

    def _tell(self, names: tuple[str, ...] = (), *, step: Note | None = None, lost: str = "") -> None:
        self.on_progress(Progress(len(self.finished), len(self.jobs), step, names, lost))
