"""A process per device on this machine, each started afresh (spawn).

The parent holds what the workers bring; a worker that dies costs the task it held, which another one does
again. Workers ignore Ctrl-C, which is the parent's to answer, and end by themselves when the parent dies.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from sif_offline.executors.base import (
    MAX_LOSSES,
    Done,
    Event,
    ExecutorError,
    Lost,
    Noted,
    Started,
    Task,
    Work,
)

GRACE_SECONDS = 5.0
"""How long a worker may take to end before it is killed."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    device: str
    task: int | None = None

    @property
    def label(self) -> str:
        return f"worker {self.process.pid} on {self.device}"


@dataclass(frozen=True)
class ProcessExecutor:
    """See :class:`~sif_offline.executors.base.Executor`.

    Args:
        devices: one a worker, such as ``("cuda:0", "cuda:1")`` or ``("cpu", "cpu")``; at least one.
        threads: CPU threads of torch in each worker. Sums may round differently with another number.
    """

    devices: Sequence[str]
    threads: int = 1
    name: str = field(default="processes")

    def run(
        self,
        work: Work[Task, Any],
        tasks: Sequence[Task],
        *,
        on_event: Callable[[Event], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """See :class:`~sif_offline.executors.base.Executor`."""
        waiting = deque(range(len(tasks)))
        losses = [0] * len(tasks)
        open_tasks = len(tasks)
        workers: list[_Worker] = []
        try:
            workers += [self._start(work, device) for device in self.devices[: len(tasks)]]
            while open_tasks:
                for worker in workers:
                    if worker.task is None and waiting:
                        self._hand_over(worker, waiting.popleft(), tasks, on_event)
                held: list[Any] = [worker.pipe for worker in workers]
                held += [worker.process.sentinel for worker in workers]
                ready = wait(held)
                for worker in list(workers):
                    message = self._message(worker) if worker.pipe in ready else None
                    if message is not None:
                        if self._take(worker, message, on_event):
                            open_tasks -= 1
                            if stop():
                                return
                    elif worker.process.sentinel in ready or worker.pipe in ready:
                        workers.remove(worker)
                        self._bury(worker, waiting, losses, on_event)
                        if waiting or any(other.task is not None for other in workers):
                            workers.append(self._start(work, worker.device))
        finally:
            _end(workers)

    def _start(self, work: Work[Task, Any], device: str) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, work, device, self.threads), daemon=True)
        try:
            process.start()
        except (OSError, pickle.PicklingError, AttributeError, TypeError) as error:
            raise ExecutorError(f"executor {self.name}: no worker could be started: {error}") from error
        theirs.close()
        return _Worker(process, ours, device)

    def _hand_over(
        self, worker: _Worker, place: int, tasks: Sequence[Any], on_event: Callable[[Event], None]
    ) -> None:
        worker.task = place
        on_event(Started(place, worker.label))
        with suppress(ConnectionError):  # it is dead: its sentinel says so next
            worker.pipe.send(tasks[place])

    @staticmethod
    def _message(worker: _Worker) -> tuple[str, Any] | None:
        try:
            kind, payload = worker.pipe.recv()
        except (EOFError, ConnectionError):
            return None
        return kind, payload

    @staticmethod
    def _take(worker: _Worker, message: tuple[str, Any], on_event: Callable[[Event], None]) -> bool:
        """Whether a task was finished."""
        kind, payload = message
        if kind == "error":
            raise payload
        place = worker.task
        if place is None:
            return False
        if kind == "note":
            on_event(Noted(place, payload))
            return False
        worker.task = None
        on_event(Done(place, payload))
        return True

    def _bury(
        self, worker: _Worker, waiting: deque[int], losses: list[int], on_event: Callable[[Event], None]
    ) -> None:
        worker.pipe.close()
        worker.process.join(GRACE_SECONDS)
        reason = _how_it_ended(worker.process.exitcode)
        if worker.task is None:
            return
        losses[worker.task] += 1
        if losses[worker.task] >= MAX_LOSSES:
            raise ExecutorError(
                f"executor {self.name}: {MAX_LOSSES} workers died over the same work, the last one {reason}; "
                "finished triggers are kept, repeat the command to go on"
            )
        on_event(Lost(worker.task, worker.label, reason))
        waiting.appendleft(worker.task)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with exit code {code}"


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(GRACE_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def _serve(pipe: Connection, work: Work[Any, Any], device: str, threads: int) -> None:
    """The whole life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    try:
        run = work.open(device)
        while True:
            try:
                task = pipe.recv()
            except EOFError:
                return
            pipe.send(("done", run(task, lambda note: pipe.send(("note", note)))))
    except (BrokenPipeError, ConnectionResetError):
        return  # the parent went away
    except Exception as error:  # whatever it is, the parent raises it
        pipe.send(("error", _picklable(error)))


def _end_with_the_parent() -> None:
    """A parent that is killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:
        return ExecutorError(f"{type(error).__name__}: {error}")
    return error
