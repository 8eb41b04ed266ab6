"""The client's side of a screened call: its body again for the application, and whether it is still there."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from gateway_plugin.wire.bodies import Message, Receive

Value = TypeVar("Value")


class Client:
    """Watches for the disconnect while a call is served; ``receive`` is what the application gets.

    A connection also ends for the server when the answer has been sent, which is no loss:
    :meth:`answered` says so before the last bytes go out.
    """

    def __init__(self, receive: Receive, body: bytes, *, on_gone: Callable[[], None]) -> None:
        self.gone = False
        self._receive, self._body, self._on_gone = receive, body, on_gone
        self._replayed = False
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._watch = asyncio.create_task(self._watching())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.cancel()
        await asyncio.wait({self._watch})

    async def receive(self) -> Message:
        """The body, whole, and then the disconnect once there is one."""
        if not self._replayed:
            self._replayed = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._closed.wait()
        return {"type": "http.disconnect"}

    def answered(self) -> None:
        """Everything is on its way to the client: what follows is no disconnect."""
        self._watch.cancel()
        self._closed.set()

    async def unless_gone(self, work: Coroutine[Any, Any, Value]) -> Value | None:
        """What ``work`` returns; ``None``, and the work cancelled, if the client leaves before."""
        if self.gone:
            work.close()
            return None
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._watch}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not self.gone:
                await asyncio.wait({task})
            return task.result() if task.done() else None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _watching(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._closed.set()
        self._on_gone()
