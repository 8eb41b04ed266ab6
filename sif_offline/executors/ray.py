"""Workers on a Ray cluster (https://docs.ray.io), one actor each: ``pip install 'sifwatch[distributed]'``."""

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sif_offline.executors.base import (
    MAX_LOSSES,
    Done,
    Event,
    ExecutorError,
    Lost,
    Started,
    Task,
    Work,
)


@dataclass(frozen=True)
class RayExecutor:
    """See :class:`~sif_offline.executors.base.Executor`. Gives no notes, only whole tasks.

    Args:
        address: of the cluster; ``auto`` finds the one that runs on this machine, ``local`` starts one here
            for this run alone.
        workers: actors.
        gpus: GPUs of each; 0 = the actor works on its node's CPU.
        threads: CPU threads of torch in each actor; so many CPUs are asked of Ray as well.
    """

    address: str = "auto"
    workers: int = 1
    gpus: int = 0
    threads: int = 1
    name: str = field(default="ray")

    def run(
        self,
        work: Work[Task, Any],
        tasks: Sequence[Task],
        *,
        on_event: Callable[[Event], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """See :class:`~sif_offline.executors.base.Executor`."""
        if not tasks:
            return
        ray = _import()
        self._connect(ray)
        try:
            self._run(ray, work, tasks, on_event, stop)
        finally:
            ray.shutdown()

    def _connect(self, ray: Any) -> None:
        try:
            ray.init(
                address=self.address,
                # the default is a zip of the working directory on every node
                runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self.threads)}},
                include_dashboard=False if self.address == "local" else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except Exception as error:  # ConnectionError, ValueError or its own, by version
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ExecutorError(
                f"executor ray: no cluster at {self.address} ({reason}); `ray start --head` starts one, "
                "`--address local` uses this machine alone"
            ) from error

    def _run(
        self,
        ray: Any,
        work: Work[Task, Any],
        tasks: Sequence[Task],
        on_event: Callable[[Event], None],
        stop: Callable[[], bool],
    ) -> None:
        actor_class = ray.remote(num_cpus=self.threads, num_gpus=self.gpus)(_Actor)
        shared = ray.put(work)

        def start() -> Any:
            return actor_class.remote(shared, "cuda:0" if self.gpus else "cpu", self.threads)

        idle = [(start(), f"actor {number}") for number in range(min(self.workers, len(tasks)))]
        waiting, losses = deque(range(len(tasks))), [0] * len(tasks)
        running: dict[Any, tuple[int, Any, str]] = {}
        while waiting or running:
            while waiting and idle:
                actor, label = idle.pop()
                place = waiting.popleft()
                on_event(Started(place, label))
                running[actor.run.remote(tasks[place])] = (place, actor, label)
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            place, actor, label = running.pop(ready)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                raise cause if isinstance(cause, Exception) else ExecutorError(str(error)) from None
            except ray.exceptions.RayActorError as error:
                losses[place] += 1
                reason = next(iter(str(error).strip().splitlines()), "died")
                if losses[place] >= MAX_LOSSES:
                    raise ExecutorError(
                        f"executor ray: {MAX_LOSSES} actors died over the same work: {reason}"
                    ) from None
                on_event(Lost(place, label, reason))
                waiting.appendleft(place)
                idle.append((start(), label))
                continue
            idle.append((actor, label))
            on_event(Done(place, result))
            if stop():
                return


class _Actor:
    """One worker; Ray shows it no GPU but its own."""

    def __init__(self, work: Work[Any, Any], device: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._run = work.open(device)

    def run(self, task: Any) -> Any:
        return self._run(task, lambda _note: None)


def _import() -> Any:
    # Ray tells its maker who uses it unless it is asked not to
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ExecutorError("executor ray: not installed; pip install 'sifwatch[distributed]'") from None
    return ray
