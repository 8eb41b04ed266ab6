"""Starts the server, and says so only when it answers."""

import asyncio
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from fastapi import FastAPI

from sif_offline.fingerprint.errors import SifError


class ServeError(SifError):
    """The address cannot be listened on, or the server did not come up."""


def serve(app: FastAPI, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until a signal ends it. ``on_ready`` gets the URL once ``/health`` has answered 200 over HTTP.

    Args:
        app: from ``build_app``.
        host: address to bind.
        port: TCP port; 0 takes a free one.
        on_ready: called once, on the event loop.

    Raises:
        ServeError: the address is in use, not ours, or the server failed to start.
    """
    with _listen(host, port) as listener:
        asyncio.run(_serve(_server(app), listener, on_ready))


@contextmanager
def serve_in_thread(app: FastAPI, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The same on a thread of its own: the URL while the block runs. Raises ``ServeError``."""
    with _listen(host, port) as listener:
        server = _server(app)
        ready: queue.Queue[str | None] = queue.Queue()

        def work() -> None:
            try:
                asyncio.run(_serve(server, listener, ready.put))
            finally:
                ready.put(None)

        thread = threading.Thread(target=work, name="sif-lab-server")
        thread.start()
        try:
            url = ready.get()
            if url is None:
                raise ServeError(f"{_url(listener)}: the server did not start")
            yield url
        finally:
            server.should_exit = True
            thread.join()


def _server(app: FastAPI) -> uvicorn.Server:
    # Requests log nothing on stdout: it carries the ready line alone.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=5, lifespan="on"
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise ServeError(f"{host}:{port}: cannot listen: {why}") from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


async def _serve(server: uvicorn.Server, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
    url = _url(listener)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.02)
    if not task.done():
        await _wait_until_healthy(url, task)
        on_ready(url)
    await task
    if not server.started:
        raise ServeError(f"{url}: the server did not start")


async def _wait_until_healthy(url: str, task: "asyncio.Task[None]") -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while not task.done():
            try:
                if (await client.get(f"{url}/health")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
