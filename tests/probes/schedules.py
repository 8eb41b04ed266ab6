"""What the tests of the schedulers share: their pace, and a job."""

import threading
import time

FAST = {"poll_s": 0.1, "look_s": 0.3}


class Log:
    """A job that writes down when it began, and takes as long as it is told."""

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.began: list[float] = []
        self.running = self.most = 0
        self._lock = threading.Condition()

    def __call__(self) -> None:
        with self._lock:
            self.began.append(time.time())
            self.running += 1
            self.most = max(self.most, self.running)
            self._lock.notify_all()
        time.sleep(self.takes_s)
        with self._lock:
            self.running -= 1
            self._lock.notify_all()

    def wait(self, times: int, *, timeout: float = 15.0) -> None:
        """Until the job has begun so often."""
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.began) >= times, timeout), (
                f"{len(self.began)} runs of {times} in {timeout} s"
            )
