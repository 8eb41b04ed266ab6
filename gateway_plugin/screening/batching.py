"""A bounded queue in front of a model: many callers, one worker thread, shared batches."""

import heapq
import itertools
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
        self._max_queue = max_queue
        # a heap: by class, then in order of arrival; the number keeps items from being compared
        self._waiting: list[tuple[bool, int, Item, Future[Result]]] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def submit(self, items: Sequence[Item]) -> "list[Future[Result]]":
        """Queue the items, all of them or none; those that were called off make room.

        Raises :class:`QueueFullError` instead of waiting.
        """
        futures: list[Future[Result]] = [Future() for _ in items]
        with self._changed:
            if len(self._waiting) + len(items) > self._max_queue:
                self._waiting = [each for each in self._waiting if not each[3].cancelled()]
                heapq.heapify(self._waiting)
            if len(self._waiting) + len(items) > self._max_queue:
                wait = f"{len(self._waiting)} of at most {self._max_queue} items already wait"
                raise QueueFullError(f"{self._name}: no room for {len(items)} more, {wait}")
            if self._thread is None:  # started late: a process that forks after start-up keeps its worker
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread  # not before it runs: a start that failed is tried again
            for item, future in zip(items, futures, strict=True):
                heapq.heappush(self._waiting, (self._long(item), next(self._numbers), item, future))
            self._changed.notify()
        return futures

    @property
    def depth(self) -> int:
        """Items that wait now, with those called off since that still have a place."""
        return len(self._waiting)

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                self._settle(batch)

    def _next_batch(self) -> "list[tuple[Item, Future[Result]]]":
        """Waits for an item; then the items to run together, without those called off."""
        batch: list[tuple[Item, Future[Result]]] = []
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            long = self._waiting[0][0]
            size = 1 if long else self._max_batch
            while len(batch) < size and self._waiting and self._waiting[0][0] == long:
                _, _, item, future = heapq.heappop(self._waiting)
                if future.set_running_or_notify_cancel():
                    batch.append((item, future))
        return batch

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
