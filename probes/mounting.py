"""The watch inside another ASGI application: ``probes.mount(app, config)``."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from probes.config import ConfigError, ProbesConfig, load_config, parse_config
from probes.fingerprints import read_fingerprint
from probes.scheduling import Scheduler
from probes.service import create_app, watch_collector
from probes.watch import Watch
from sif_offline.fingerprint.errors import SifError


def mount(
    app: Starlette,
    config: ProbesConfig | Mapping[str, Any] | Path | str,
    *,
    path: str = "/sif",
    registry: CollectorRegistry | None = None,
    scheduler: Scheduler | None = None,
) -> None:
    """Put the probes' service under ``path`` of a FastAPI or Starlette application, and run its watch.

    The watch opens after the application's own start-up (lifespan or start-up handlers) and stops before its
    shut-down. Call this before the application starts, and before a route that matches every path.

    Args:
        app: the host.
        config: a configuration, a mapping of its keys (relative paths are then the working directory's), or
            the path of its YAML file. ``listen`` is not used: the host listens.
        path: where the service's pages go: ``{path}/metrics``, ``{path}/health``, ...
        registry: the host's own registry, for a host that exports the metrics itself; where the store cannot
            be read they say so and leave the host's other metrics alone.
        scheduler: when rounds run; the one that the configuration names where None.

    Raises:
        ConfigError: the path, the configuration, the pack, the keys or a credential cannot be used. A store
            that cannot be opened stops the host's start with a StoreError.
    """
    if not path.startswith("/") or path != path.rstrip("/"):
        raise ConfigError(f"path {path!r}: must begin with a slash and not end with one")
    settings = checked(config)
    entrance = _Entrance()
    app.mount(path, entrance)
    outer = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(host: Any) -> AsyncIterator[Any]:
        async with outer(host) as state, AsyncExitStack() as stack:
            watch = stack.enter_context(await asyncio.to_thread(Watch.open, settings))
            service = create_app(watch, scheduler=scheduler, token=settings.web.read_token())
            if registry is not None:
                collector = watch_collector(watch, guest=True)
                registry.register(collector)
                stack.callback(registry.unregister, collector)
            await stack.enter_async_context(service.router.lifespan_context(service))
            entrance.service = service
            stack.callback(entrance.close)
            yield state

    app.router.lifespan_context = lifespan


def checked(config: ProbesConfig | Mapping[str, Any] | Path | str) -> ProbesConfig:
    """A configuration of which everything but the store has been tried. Raises ConfigError, one line."""
    try:
        if isinstance(config, Path | str):
            settings = load_config(Path(config))
        elif isinstance(config, Mapping):
            settings = parse_config(config, where="config", folder=Path.cwd())
        else:
            settings = config
        read_fingerprint(settings).watched(settings)
        settings.web.read_token()
    except ConfigError:
        raise
    except SifError as error:
        raise ConfigError(str(error)) from None
    return settings


class _Entrance:
    """What stands in the host's routes: the service while it runs, before and after that a 503."""

    def __init__(self) -> None:
        self.service: ASGIApp | None = None

    def close(self) -> None:
        self.service = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.service is not None:
            await self.service(scope, receive, send)
        elif scope["type"] == "http":
            said = "the watch is not running: the host application has not run its lifespan\n"
            await PlainTextResponse(said, status_code=503)(scope, receive, send)
