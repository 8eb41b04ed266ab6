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


def bind(host: str, port: int) -> socket.socket:
    """A socket that holds the address and does not listen yet: clients are refused while a model loads.

    Args:
        host: IPv4 or IPv6 address, or a name of this machine.
        port: TCP port; 0 takes a free one.

    Raises:
        ServeError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.socket(family, socket.SOCK_STREAM)
    try:
        address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address.bind((host, port))
    except (OSError, OverflowError) as error:
        address.close()
        why = getattr(error, "strerror", None) or error
        raise ServeError(f"{host}:{port}: cannot listen: {why}") from None
    return address


def serve(app: FastAPI, *, address: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Serve until a signal ends it. ``on_ready`` gets the URL once ``/health`` has answered 200 over HTTP.

    Args:
        app: from ``build_app``.
        address: from :func:`bind`; closed at the end.
        on_ready: called once, on the event loop.

    Raises:
        ServeError: the server failed to start.
    """
    with address:
        asyncio.run(_serve(_server(app), address, on_ready))


@contextmanager
def serve_in_thread(app: FastAPI, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The same on a thread of its own: the URL while the block runs. Raises ``ServeError``."""
    with bind(host, port) as address:
        server = _server(app)
        ready: queue.Queue[str | ServeError] = queue.Queue()

        def work() -> None:
            try:
                asyncio.run(_serve(server, address, ready.put))
            except ServeError as error:
                ready.put(error)

        thread = threading.Thread(target=work, name="sif-lab-server")
        thread.start()
        try:
            answer = ready.get()
            if isinstance(answer, ServeError):
                raise answer
            yield answer
        finally:
            server.should_exit = True
            thread.join()


def _server(app: FastAPI) -> uvicorn.Server:
    # Requests log nothing on stdout: it carries the ready line alone.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=5, lifespan="on"
    )
    return uvicorn.Server(config)


def _url(address: socket.socket) -> str:
    host, port = address.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


async def _serve(server: uvicorn.Server, address: socket.socket, on_ready: Callable[[str], None]) -> None:
    url = _url(address)
    task = asyncio.create_task(_run(server, address))
    while not server.started and not task.done():
        await asyncio.sleep(0.02)
    if not task.done():
        await _wait_until_healthy(url, task)
        on_ready(url)
    await task
    if not server.started:
        raise ServeError(f"{url}: the server did not start")


async def _run(server: uvicorn.Server, address: socket.socket) -> None:
    try:
        await server.serve(sockets=[address])
    except OSError as error:  # somebody else began to listen there after we bound it
        raise ServeError(f"{_url(address)}: cannot listen: {error.strerror or error}") from None
    except SystemExit:  # uvicorn's way to say that the start-up failed; it has logged why
        raise ServeError(f"{_url(address)}: the server did not start") from None


async def _wait_until_healthy(url: str, task: "asyncio.Task[None]") -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while not task.done():
            try:
                if (await client.get(f"{url}/health")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
