"""A bounded queue in front of a model: many callers, one worker thread, shared batches."""

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
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        name: str,
        max_batch: int = 16,
        max_queue: int = 256,
    ) -> None:
        self._work, self._name, self._max_batch = work, name, max_batch
        self._waiting: queue.Queue[tuple[Item, Future[Result]]] = queue.Queue(maxsize=max_queue)
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, item: Item) -> "Future[Result]":
        """Queue one item. Raises :class:`QueueFullError` instead of waiting."""
        future: Future[Result] = Future()
        try:
            self._waiting.put_nowait((item, future))
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
            batch = [self._waiting.get()]
            while len(batch) < self._max_batch:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            live = [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]
            if not live:
                continue
            if not self._try(live) and len(live) > 1:
                for one in live:  # one caller's item must not fail the others'
                    self._try([one], last=True)

    def _try(self, live: "Sequence[tuple[Item, Future[Result]]]", *, last: bool = False) -> bool:
        """Run one batch; its failure goes to the callers where there is nothing more to try."""
        try:
            results = self._work([item for item, _ in live])
            for (_, future), result in zip(live, results, strict=True):
                future.set_result(result)
        except Exception as error:
            if last or len(live) == 1:
                for _, future in live:
                    if not future.done():
                        future.set_exception(error)
            return False
        return True
