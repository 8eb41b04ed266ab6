"""A bounded queue in front of a model: many callers, one worker thread, shared batches."""

import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """More work waits than the queue may hold."""


class BatchWorker(Generic[Item, Result]):
    """Runs ``work`` on whatever has queued up, at most ``max_batch`` items at a time, in its own thread.

    There is no waiting for a batch to fill: while one batch runs the next one gathers, so an idle
    gateway adds no latency and a busy one gets full batches.

    long: items that take long. They wait until no other does and run one at a time: a stranger who sends
        them delays the others by one of them at most.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        name: str,
        max_batch: int = 16,
        max_queue: int = 256,
        long: Callable[[Item], bool] = lambda item: False,
    ) -> None:
        self._work, self._name, self._max_batch, self._long = work, name, max_batch, long
        # by class, then in order of arrival; the number keeps items from being compared
        self._waiting: queue.PriorityQueue[tuple[bool, int, Item, Future[Result]]]
        self._waiting = queue.PriorityQueue(maxsize=max_queue)
        self._numbers = itertools.count()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, item: Item) -> "Future[Result]":
        """Queue one item. Raises :class:`QueueFullError` instead of waiting."""
        future: Future[Result] = Future()
        try:
            self._waiting.put_nowait((self._long(item), next(self._numbers), item, future))
        except queue.Full:
            raise QueueFullError(f"{self._name}: {self._waiting.maxsize} items already wait") from None
        if self._thread is None:  # started late, so that a process that forks after start-up keeps its worker
            with self._start:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
        return future

    @property
    def depth(self) -> int:
        """Items that wait now."""
        return self._waiting.qsize()

    def _run(self) -> None:
        while True:
            long, _, item, future = self._waiting.get()
            batch = [(item, future)]
            while not long and len(batch) < self._max_batch and self._short_waits():
                _, _, item, future = self._waiting.get_nowait()
                batch.append((item, future))
            live = [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]
            if live:
                self._settle(live)

    def _short_waits(self) -> bool:
        """Only the worker takes items out, so what waits now still waits when it does."""
        with self._waiting.mutex:
            waiting = self._waiting.queue
            return bool(waiting) and not waiting[0][0]

    def _settle(self, live: "Sequence[tuple[Item, Future[Result]]]") -> None:
        """Run a batch; one that fails is run again item by item, so that one caller's fails no other's."""
        try:
            results = self._work([item for item, _ in live])
            for (_, future), result in zip(live, results, strict=True):
                future.set_result(result)
        except Exception as error:
            if len(live) > 1:
                for one in live:
                    self._settle([one])
            elif not live[0][1].done():
                live[0][1].set_exception(error)
