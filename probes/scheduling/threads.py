"""Threads for jobs that may hang."""

import threading
import time
from collections.abc import Callable


class DaemonThreads:
    """A daemon thread a run.

    A thread pool is joined when the interpreter exits, so that one hanging endpoint would keep the service
    from stopping; what a daemon thread leaves behind is an open intent, which the next round puts in doubt.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def start(self, name: str, run: Callable[[], None]) -> None:
        """Run a function in a thread of its own."""
        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            self._threads = {other for other in self._threads if other.is_alive()} | {thread}
            thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the running threads; whether all of them ended in time."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)


class Ticker:
    """Calls a function every so many seconds of real time, in a daemon thread, until it is stopped."""

    def __init__(self, name: str, *, every_s: float, call: Callable[[], None]) -> None:
        self._every_s = every_s
        self._call = call
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call comes after one period."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait a little for a call under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _loop(self) -> None:
        # Event.wait counts real seconds, whatever the clock on the wall does
        while not self._stop.wait(self._every_s):
            self._call()
