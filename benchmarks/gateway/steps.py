"""How long a coroutine keeps its event loop, exactly: the CPU time of each of its steps.

A step is what runs between two times that the loop is free. Sampling cannot tell this: a sampling thread gets
the interpreter's lock mostly where the loop's thread gives it up, and so finds whoever makes system calls.
"""

import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any


class Steps:
    """Runs a coroutine and hands the seconds of each step, by ``clock``, to ``record``."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        record: Callable[[float], None],
        *,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._coroutine, self._record, self._clock = coroutine, record, clock

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[], Any] = functools.partial(self._coroutine.send, None)
        while True:
            began = self._clock()
            try:
                awaited = resume()
            except StopIteration as end:
                return end.value
            finally:
                self._record(self._clock() - began)
            try:
                resume = functools.partial(self._coroutine.send, (yield awaited))
            except BaseException as error:
                resume = functools.partial(self._coroutine.throw, error)


def timed(
    method: Callable[..., Coroutine[Any, Any, Any]],
    record: Callable[[float], None],
    *,
    clock: Callable[[], float] = time.thread_time,
) -> Callable[..., Awaitable[Any]]:
    """The same asynchronous method with its steps recorded."""

    @functools.wraps(method)
    async def run(*arguments: Any, **options: Any) -> Any:
        return await Steps(method(*arguments, **options), record, clock=clock)

    return run
