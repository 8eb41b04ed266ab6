"""The queue between a gateway and its audit sink: traffic never waits for a disk or a database."""

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Literal

from gateway_plugin.audit.record import AuditError, AuditRecord, AuditSink

logger = logging.getLogger("sifwatch.gateway")

Loss = Literal["full", "sink"]
"""Why a record was lost: the queue was full, or the sink refused it or was still broken at the end."""


class AuditLog:
    """Takes records without ever waiting or raising, and writes them from one thread of its own.

    The thread starts with the first record, in whichever process that is. A broken sink is tried again, at
    growing intervals, with everything that is queued; only what no longer fits is lost then. At the end of
    the process what is queued is written (for 2 s at most), unless a signal ends it at once.

    Args:
        sink: where records go; used by the writer thread alone.
        on_lost: told why and how many, in whichever thread notices.
        max_records: that may wait.
        max_bytes: of the records that may wait, about; texts make them large.
        linger_s: how long the first record of a batch waits for others, seconds.
        retry_s: the first wait for a broken sink, seconds; doubled each time, up to ``longest_retry_s``.
        batch: most records that are written at once.
    """

    def __init__(
        self,
        sink: AuditSink,
        *,
        on_lost: Callable[[Loss, int], None] = lambda kind, count: None,
        max_records: int = 10_000,
        max_bytes: int = 256 * 2**20,
        linger_s: float = 0.02,
        retry_s: float = 0.1,
        longest_retry_s: float = 30.0,
        batch: int = 500,
    ) -> None:
        self._sink, self._on_lost = sink, on_lost
        self._max_records, self._max_bytes, self._batch = max_records, max_bytes, batch
        self._linger_s, self._retry_s, self._longest_retry_s = linger_s, retry_s, longest_retry_s
        self._start_anew()
        this = weakref.WeakMethod(self._start_anew)

        def in_child() -> None:
            start_anew = this()
            if start_anew is not None:
                start_anew()

        os.register_at_fork(after_in_child=in_child)

    def _start_anew(self) -> None:
        """Nothing queued, no thread; also in a forked child, whose parent writes what was queued."""
        self._queue: deque[AuditRecord] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing_at: float | None = None  # when to give up, by time.monotonic()

    @property
    def waiting(self) -> int:
        """Records that are queued and not written yet."""
        return len(self._queue)

    def put(self, record: AuditRecord) -> None:
        """Queue a record; one that does not fit, or comes after ``close``, is lost and counted."""
        size = record.size
        with self._changed:
            full = len(self._queue) >= self._max_records or self._bytes + size > self._max_bytes
            closed = self._closing_at is not None
            if not full and not closed:
                self._queue.append(record)
                self._bytes += size
                if self._thread is None:
                    self._start_thread()
                elif len(self._queue) == 1:
                    self._changed.notify()
        if full or closed:
            self._lose("sink" if closed else "full", 1)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is queued, for so long at most, and let go of the sink; the rest is lost and counted."""
        with self._changed:
            if self._closing_at is not None:
                return
            self._closing_at = time.monotonic() + timeout_s
            self._changed.notify()
            thread = self._thread
        atexit.unregister(self._at_exit)
        if thread is None:
            self._sink.close()
        else:
            thread.join(timeout_s)
        with self._changed:
            left = len(self._queue)
            self._queue.clear()
        if left:
            self._lose("sink", left)

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._write_all, name="sif-audit", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads, or the interpreter is going down: the next record tries again
            self._thread = None
        else:
            atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        self.close(2.0)

    def _lose(self, kind: Loss, count: int) -> None:
        try:
            self._on_lost(kind, count)
        except Exception as error:
            logger.error("audit: the counter of lost records failed: %s", type(error).__name__)

    # -- in the writer thread

    def _write_all(self) -> None:
        while records := self._next_batch():
            self._write(records)
        self._sink.close()

    def _next_batch(self) -> Sequence[AuditRecord]:
        """The oldest records, left in the queue until they are written; none when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing_at is not None)
            if len(self._queue) < self._batch:
                self._changed.wait_for(lambda: self._closing_at is not None, timeout=self._linger_s)
            return () if self._given_up() else tuple(islice(self._queue, self._batch))

    def _given_up(self) -> bool:
        return self._closing_at is not None and time.monotonic() >= self._closing_at

    def _write(self, records: Sequence[AuditRecord]) -> None:
        """Until they are written, refused for good, or there is no more time."""
        wait_s, broken = self._retry_s, False
        while not self._given_up():
            try:
                self._sink.write(records)
            except AuditError as error:
                if not broken:
                    logger.error("audit: %s; trying again with %d waiting", error, self.waiting)
                broken = True
                self._pause(wait_s)
                wait_s = min(2 * wait_s, self._longest_retry_s)
            except Exception as error:
                # not the sink's state but a record: each alone, so that one does not take the others with it
                if len(records) > 1:
                    for record in records:
                        self._write((record,))
                else:
                    logger.error("audit: a record could not be stored: %s", type(error).__name__)
                    self._done(records)
                    self._lose("sink", 1)
                return
            else:
                if broken:
                    logger.warning("audit: records are stored again")
                self._done(records)
                return

    def _pause(self, seconds: float) -> None:
        with self._changed:
            if self._closing_at is not None:
                seconds = min(seconds, 0.1, max(0.0, self._closing_at - time.monotonic()))
                self._changed.wait(seconds)
            else:
                self._changed.wait_for(lambda: self._closing_at is not None, timeout=seconds)

    def _done(self, records: Sequence[AuditRecord]) -> None:
        with self._changed:
            for record in records:
                if self._queue and self._queue[0] is record:  # else close() has given the rest up
                    self._queue.popleft()
                    self._bytes -= record.size
